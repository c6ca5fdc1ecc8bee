"""What is done before Snakemake's SLURM executor starts, and corrections to it."""

import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from snakemake.exceptions import WorkflowError

from fspkd.errors import UserError
from fspkd.provenance import COMMIT, git_commit
from fspkd.slurm.queue import QueueError, ask, not_queued, own_jobs, watch_queue
from fspkd.slurm.site import MOST_PARTS, OPTIONS, SITE, Site, check_site

LOOKS_UNTIL_LOST = 3  # in a row that found a job preempted and not queued again


def prepare_slurm(site: Site, jobs: Iterable[Any], logger: Any) -> None:
    """Check what jobs ask a site for, pass the commit on to them, and report what the queue does while the workflow runs.

    `jobs`: Snakemake's, those that need to run. Raises WorkflowError, which Snakemake reports, if `check_site` raises
    UserError.
    """
    try:
        for asked in _asked(site, jobs):
            check_site(asked, logger.warning, str(SITE) if asked == site else f"{SITE}, {OPTIONS}")
    except UserError as error:
        raise WorkflowError(str(error)) from None
    if commit := git_commit():
        os.environ[COMMIT] = commit
    with suppress(QueueError):  # the watch reports it
        if before := [number for numbers in own_jobs().values() for number in numbers]:
            logger.warning(
                f"SLURM: earlier jobs of this folder: {' '.join(before)}. For each net that they train, a new job would wait, "
                f"holding a GPU: better scancel them, since nets resume from their checkpoints."
            )
    threading.Thread(target=watch_queue, args=[logger.info], daemon=True).start()


def _asked(site: Site, jobs: Iterable[Any]) -> list[Site]:
    """What those of the jobs that take a site's settings ask for at their last attempt, each once."""
    of_jobs = (
        job.rule.expand_resources(job.wildcards_dict, job.input, MOST_PARTS, {"tmpdir"})
        for job in jobs
        if not job.is_local
    )
    return list(dict.fromkeys(site.as_asked(asked) for asked in of_jobs if asked.get("checkpoint_seconds")))


def mend_executor() -> None:
    """Change some behaviours of the SLURM executor, version 2.8, before it starts.

    Each until it is fixed upstream; numbers are of issues in snakemake/snakemake-executor-plugin-slurm.

    - It looks for ended jobs 40 s after its start and less and less often while none ends, in the end every three minutes;
      so it would notice the end of an hour-long job minutes late. Here it looks every --seconds-between-status-checks.
      Intended upstream; #319 asks what that option means.
    - It waits for ever for a cancelled job, since sacct adds who cancelled it ("CANCELLED by 1000"). Once fixed
      (snakemake/snakemake#2167), broken again by #415; no issue is open.
    - It waits for ever for a job that was preempted, or whose node failed, and that SLURM does not queue again. It has
      waited since #132, which is right if SLURM does queue it; no issue is open for the other case.
    - It waits for ever for all jobs once sacct has not answered: #207.
    - On Ctrl-C it does not cancel jobs whose states it is querying, and still submits those that are due; no issue is open.
    - Its search for an account fails with a message about options of sacct (broken by #415; no issue is open); without an
      account SLURM takes the user's default.
    """
    import snakemake_executor_plugin_slurm as plugin

    query = plugin.query_job_status
    looks = defaultdict(int)

    async def settled(command: str, logger: Any) -> tuple[dict[str, str], float]:
        states, duration = await query(command, logger)
        if states is None:
            return {}, 0.0  # jobs of unknown state are looked for again
        states = {job: state.split()[0] for job, state in states.items()}
        undecided = {job for job in states if looks[job] < LOOKS_UNTIL_LOST}
        gone = not_queued({job for job in undecided if states[job] in ("PREEMPTED", "NODE_FAIL")})
        for job in undecided:
            looks[job] = looks[job] + 1 if job in gone else 0
        for job in states:
            if looks[job] >= LOOKS_UNTIL_LOST:
                states[job] = "CANCELLED"
        return states, duration

    def cancel_all(executor: Any, jobs: object) -> None:
        executor._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        try:
            ask("scancel", "--name", executor.run_uuid)
        except QueueError as error:
            executor.logger.warning(f"SLURM: jobs may go on, since scancel failed: {error}")

    plugin.query_job_status = settled
    plugin.Executor.cancel_jobs = cancel_all
    plugin.get_account = lambda logger: None
    plugin.Executor.next_seconds_between_status_checks = property(
        lambda self: self.workflow.remote_execution_settings.seconds_between_status_checks,
        lambda self, longer: None,
    )
