"""
What is particular to SLURM.

ON_GPU are the resources of a rule that needs a GPU; without SLURM only the number of GPUs counts.
"""

from snakemake.settings.types import ExecutionSettings

from fspkd.slurm import mend_executor

ON_GPU = SITE.resources(
    retries=lambda: (workflow.execution_settings or ExecutionSettings()).retries
)

mend_executor()  # which starts after the rules are read, and before onstart
