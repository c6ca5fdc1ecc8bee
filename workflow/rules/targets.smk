"""
What is asked for: where nothing is, an overview of what there is; what nothing makes is told, before anything is done.
"""

from fspkd.targets import check_targets, overview


def look_at_targets(prepare):
    """
    What Snakemake does first with its targets, which it does not know yet while it reads this, after a look at them.
    """

    def look(*args, **settings):
        asked = workflow.dag_settings
        for problem in PROBLEMS:
            logger.warning(f"left out: {problem}")
        if not (asked.targets or asked.target_jobs or asked.forcerun):
            print(overview(PLANS.values()))
            raise SystemExit
        try:
            check_targets(asked.targets, workflow.rules, PLANS.values(), PROBLEMS)
        except UserError as error:
            raise WorkflowError(str(error))
        return prepare(*args, **settings)

    return look


workflow._prepare_dag = look_at_targets(workflow._prepare_dag)
