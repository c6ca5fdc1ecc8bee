"""
What is particular to SLURM.

ON_GPU are the resources of a rule that needs a GPU; without SLURM only the number of GPUs and checkpoint_seconds count.
"""

from fspkd.slurm.executor import mend_executor

ON_GPU = SITE.resources(
    retries=lambda: (
        workflow.execution_settings.retries if workflow.execution_settings else 0
    )
)

mend_executor()  # which starts after the rules are read, and before onstart
