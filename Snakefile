"""
From raw images to the papers' tables.

    snakemake results/quickstart/table1.csv      minutes on 2 cores, no network needed
    snakemake results/mini/table1.csv            the real CIFAR-10 at a hundredth of the length
    snakemake results/table1.csv                 the paper

Each preset in config/ names its tables; their rows decide which nets are trained. Add -n to see what would run; without a
file's name Snakemake lists what there is.
"""

from snakemake.utils import min_version

min_version("9.27")  # before the imports that need it

from snakemake.logging import logger

from fspkd.slurm.executor import prepare_slurm
from fspkd.targets import look_at_targets
from fspkd.terminal import expect
from fspkd.tracking.follow import Follower
from fspkd.workflow.training import share_gpus

FOLLOWER = Follower()


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/slurm.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/results.smk"


look_at_targets(workflow, PLANS.values(), PROBLEMS, RESULTS.of_other_code)


onstart:
    if not workflow.touch:
        jobs = list(workflow.dag.needrun_jobs())
        expect([job.message or "" for job in jobs])
        if workflow.executor_plugin.name == "slurm":
            prepare_slurm(SITE, jobs, logger)
        share_gpus(workflow)
        FOLLOWER.start(list(PLANS))


onsuccess:
    FOLLOWER.stop()


onerror:
    FOLLOWER.stop()
