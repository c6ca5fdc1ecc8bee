"""
What is asked for: where nothing is, an overview of what there is; what nothing makes is told, before anything is done, and
nets of other code than this, once it is known which nets are shown.
"""

from fspkd.targets import check_targets, overview


def looked_at(build):
    """
    How Snakemake builds its DAG, with a look at its targets before, which it does not know while it reads this, and after.
    """

    def build_dag():
        asked = workflow.dag_settings
        try:
            check_targets(asked.targets, workflow.rules, PLANS.values(), PROBLEMS)
        except UserError as error:
            raise WorkflowError(str(error))
        for problem in PROBLEMS:
            logger.warning(f"left out: {problem}")
        if not (asked.targets or asked.target_jobs or asked.forcerun):
            print(overview(PLANS.values()))
            raise SystemExit
        build()
        if OF_OTHER_CODE and not workflow.remote_exec:
            some = ", ".join(sorted(OF_OTHER_CODE)[:3]) + (
                ", ..." if len(OF_OTHER_CODE) > 3 else ""
            )
            logger.warning(
                f"{len(OF_OTHER_CODE)} of these nets were trained by other code than this, and stay as they are ({some}). To"
                f" train them anew, delete their folders, or all of a preset's: python scripts/drop_stale.py FOLDER"
            )

    return build_dag


workflow._build_dag = looked_at(workflow._build_dag)
