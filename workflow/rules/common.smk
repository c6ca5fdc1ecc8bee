"""
The presets in config/, resolved into plans, and the functions that the rules ask for their inputs.

PLANS maps a folder of results to the plan of the preset that writes it.
"""

import re

from snakemake.exceptions import WorkflowError

from fspkd.errors import UserError
from fspkd.plan import load_plans

ENVIRONMENT = "../../environment.yml"

try:
    PLANS = load_plans()
except UserError as error:
    raise WorkflowError(str(error))


wildcard_constraints:
    results="|".join(map(re.escape, PLANS)),
    stage1_run=r"[a-z0-9_-]+-stage1-[0-9a-f]{10}",
    stage2_run=r"(?![a-z0-9_-]+-stage1-)[a-z0-9_]+-[0-9]+-[0-9a-f]{10}",
    table="|".join(
        sorted({name for plan in PLANS.values() for name in plan.preset.tables})
    ),
    figure="|".join(
        sorted({name for plan in PLANS.values() for name in plan.preset.figures})
    ),


def outputs(plan):
    """All tables and figures of a plan."""
    tables = expand(
        "{results}/{table}.csv", results=plan.preset.results, table=plan.preset.tables
    )
    return tables + expand(
        "{results}/{figure}.png",
        results=plan.preset.results,
        figure=plan.preset.figures,
    )


def run_of(wildcards):
    """The run that a training rule's wildcards name."""
    names = dict(wildcards.items())
    return PLANS[names["results"]].runs.get(
        names.get("stage1_run") or names.get("stage2_run")
    )


def training_inputs(wildcards):
    """The packed data, and the weights that the run starts from and learns from."""
    run = run_of(wildcards)
    if run is None:
        raise WorkflowError(
            f"{wildcards}: the preset has no such run; its name ends in a hash of its settings."
        )
    data = str(run.data.path)
    # Pinned content is part of the run's name; other images may have been packed anew from the same place.
    inputs = {"data": ancient(data) if run.data.settings.sha256 else data}
    for role in ("start", "teacher"):
        if other := getattr(run, role):
            inputs[role] = f"{other.folder}/weights.pt"
    return inputs


def result_runs(wildcards):
    """The runs whose nets a table or figure shows."""
    plan = PLANS[wildcards.results]
    if "table" in wildcards.keys():
        return [
            run
            for row in plan.preset.tables[wildcards.table].rows.values()
            for run in plan.rows[row]
        ]
    return [
        plan.net(net) for net in plan.preset.figures[wildcards.figure].curves.values()
    ]


def all_runs(runs):
    """Those runs, and the stage-1 runs that are counted to them."""
    return dict.fromkeys(
        [run.start for run in runs if run.start and run.start.stage == 1] + runs
    )
