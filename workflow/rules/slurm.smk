"""
What is particular to SLURM: what a site asks of jobs, and what is told about the queue.

ON_GPU are the resources of a rule that needs a GPU; elsewhere than on SLURM only the number of GPUs counts.
"""

import threading
from collections import defaultdict

from snakemake.settings.types import ExecutionSettings

from fspkd.slurm import check_site, is_queued, load_site, watch_queue

LOOKS_UNTIL_LOST = 3

try:
    SITE = load_site()
except UserError as error:
    raise WorkflowError(str(error))

ON_GPU = SITE.resources(
    retries=lambda: (workflow.execution_settings or ExecutionSettings()).retries
)


def mend_executor():
    """
    Correct some habits of the SLURM executor, version 2.8, each until its repository has done so (numbers are of issues in
    snakemake/snakemake-executor-plugin-slurm).

    - It looks for ended jobs 40 s after its start and ever more seldom while none ends, in the end every three minutes;
      so it would learn of the end of an hour's job minutes late. Here it looks every --seconds-between-status-checks. By
      intention; #319 asks what that option means.
    - It waits for ever for a cancelled job, since sacct adds who cancelled it ("CANCELLED by 1000"). Once mended
      (snakemake/snakemake#2167), broken again by #415; no issue is open.
    - It waits for ever for a job that was preempted, or whose node failed, and that SLURM does not queue again. It has
      waited since #132, which is right where SLURM does; no issue is open for where it does not.
    - It waits for ever for all jobs once sacct has not answered: #207.
    - Its search for an account fails with a message on options of sacct (broken by #415; no issue is open); without one
      SLURM takes the user's default.
    """
    import snakemake_executor_plugin_slurm as plugin

    query = plugin.query_job_status
    # In a row, at which a job had been preempted and was not queued again.
    looks = defaultdict(int)

    async def settled(command, logger):
        states, duration = await query(command, logger)
        if states is None:
            return {}, 0.0  # a job of which nothing is known is looked for again
        for job, state in states.items():
            states[job] = state.split()[0]
            gone = states[job] in ("PREEMPTED", "NODE_FAIL") and not is_queued(job)
            looks[job] = looks[job] + 1 if gone else 0
            if looks[job] > LOOKS_UNTIL_LOST:
                states[job] = "CANCELLED"
        return states, duration

    plugin.query_job_status = settled
    plugin.get_account = lambda logger: None
    plugin.Executor.next_seconds_between_status_checks = property(
        lambda self: self.workflow.remote_execution_settings.seconds_between_status_checks,
        lambda self, longer: None,
    )


mend_executor()  # the executor starts after the rules are read, and before onstart


def prepare_slurm():
    """
    Check what the site asks for, and tell what the queue does while the workflow runs.
    """
    if workflow.executor_plugin.name == "slurm":
        try:
            check_site(SITE, logger.warning)
        except UserError as error:
            raise WorkflowError(str(error))
        threading.Thread(target=watch_queue, args=[logger.info], daemon=True).start()
