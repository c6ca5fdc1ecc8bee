"""
The presets in config/, resolved into plans, and the functions that the rules ask for their inputs.

PLANS maps a folder of results to the plan of the preset that writes it.
"""

import re

from snakemake.exceptions import WorkflowError

from fspkd.errors import UserError
from fspkd.plan import PHASES, load_plans
from fspkd.provenance import PACKAGE

ENVIRONMENT = "../../environment.yml"
MEMBERS = config.get("members", 1)  # nets that a training job trains side by side

if not isinstance(MEMBERS, int) or MEMBERS < 1:
    raise WorkflowError(
        f"--config members={MEMBERS}: must be a whole number, 1 or more: the nets that one job trains."
    )

try:
    PLANS = load_plans()
except UserError as error:
    raise WorkflowError(str(error))


def names(kind):
    """A pattern for the names of all tables, figures or timings, which matches nothing where there are none."""
    found = {name for plan in PLANS.values() for name in getattr(plan.preset, kind)}
    return "|".join(sorted(found)) or "(?!)"


wildcard_constraints:
    results="|".join(map(re.escape, PLANS)),
    table=names("tables"),
    figure=names("figures"),
    timing=names("timings"),


def run_outputs(run):
    """What a run leaves behind."""
    files = ["weights.pt", "metrics.csv", "manifest.json"]
    files += ["predictions.npz"] if run.stage == 2 else []
    return [f"{run.folder}/{file}" for file in files]


def outputs(plan):
    """All tables, figures and time comparisons of a plan."""
    preset = plan.preset
    names = [f"{table}.csv" for table in preset.tables]
    names += [f"{figure}.png" for figure in preset.figures]
    names += [f"{timing}.csv" for timing in preset.timings]
    return [f"{preset.results}/{name}" for name in names]


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


def timed_nets(wildcards):
    """The nets in a time comparison."""
    plan = PLANS[wildcards.results]
    rows = plan.preset.timings[wildcards.timing].rows
    return [net for row in rows for net in plan.rows[row]]
