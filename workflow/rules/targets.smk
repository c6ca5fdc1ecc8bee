"""
What is asked for: with nothing asked for, an overview of what there is; what nothing makes is told.
"""

if workflow.dag_settings and not workflow.remote_exec:
    try:
        check_targets(workflow.dag_settings.targets, workflow.rules, PLANS, PROBLEMS)
    except UserError as error:
        raise WorkflowError(str(error))
    if not workflow.dag_settings.targets:
        print(overview(PLANS.values()))
        raise SystemExit
