"""
The presets in config/, resolved into plans, and the functions that the rules ask for their inputs.

PLANS maps a folder of results to the plan of the preset that writes it.
"""

import re

from snakemake.exceptions import WorkflowError

from fspkd.errors import UserError
from fspkd.plan import load_plans
from fspkd.runs.spec import PHASES
from fspkd.provenance import PACKAGE

ENVIRONMENT = "../../environment.yml"  # what jobs need; here all run in the one that snakemake runs in
MEMBERS = config.get("members", 1)  # nets that a training job trains side by side

if not isinstance(MEMBERS, int) or MEMBERS < 1:
    raise WorkflowError(
        f"--config members={MEMBERS}: must be a whole number, 1 or more: the nets that one job trains."
    )

try:
    # Somebody may write at another preset while a job that was submitted begins.
    PLANS = load_plans(invalid=logger.warning if workflow.remote_exec else None)
except UserError as error:
    raise WorkflowError(str(error))


def code(*modules):
    """The files of some modules of the package."""
    return [PACKAGE / f"{module}.py" for module in modules]


PAGES = [*code("results/pages"), PACKAGE / "results" / "page.html.j2"]


def one_of(texts):
    """A pattern that matches any of some texts, and nothing where there are none."""
    return "|".join(map(re.escape, sorted(texts))) or "(?!)"


def names(kind):
    """A pattern for the names of all tables, figures or timings."""
    return one_of(
        {name for plan in PLANS.values() for name in getattr(plan.preset, kind)}
    )


wildcard_constraints:
    results=one_of(PLANS),
    table=names("tables"),
    figure=names("figures"),
    timing=names("timings"),


def run_outputs(run):
    """What a run leaves behind."""
    files = ["weights.pt", "metrics.csv", "manifest.json"]
    files += ["predictions.npz"] if run.stage == 2 else []
    return [f"{run.folder}/{file}" for file in files]


def result_files(plan):
    """All tables, figures and time comparisons of a plan, and what is said of its claims."""
    preset = plan.preset
    names = [f"{table}.csv" for table in preset.tables]
    names += [f"{figure}.svg" for figure in preset.figures]
    names += [f"{timing}.csv" for timing in preset.timings]
    names += ["claims.csv"] if plan.claims else []
    return [f"{preset.results}/{name}" for name in names]


def measured_results(wildcards):
    """What a preset's figures and time comparisons give to claims."""
    preset = PLANS[wildcards.results].preset
    names = [f"{figure}_flat.csv" for figure in preset.figures]
    names += [f"{timing}.csv" for timing in preset.timings]
    return [f"{preset.results}/{name}" for name in names]


def shown_settings(wildcards):
    """The settings of a preset that decide what is shown of its nets."""
    shown = {"about", "tables", "figures", "timings"}
    return PLANS[wildcards.results].preset.model_dump_json(include=shown)


def table_runs(wildcards):
    """The nets in all tables of a preset."""
    plan = PLANS[wildcards.results]
    tables = plan.preset.tables.values()
    rows = dict.fromkeys(row for table in tables for row in table.rows.values())
    return list(dict.fromkeys(run for row in rows for run in plan.nets(row)))


def result_runs(wildcards):
    """The runs whose nets a table or figure shows."""
    plan = PLANS[wildcards.results]
    if "table" in wildcards.keys():
        rows = plan.preset.tables[wildcards.table].rows
    else:
        rows = plan.preset.figures[wildcards.figure].curves
    return [run for row in rows.values() for run in plan.nets(row)]


def all_runs(runs):
    """Those runs, and the stage-1 runs that are counted to them."""
    return dict.fromkeys([run.stage1 for run in runs if run.stage1] + runs)


def timed_nets(wildcards):
    """The nets in a time comparison."""
    plan = PLANS[wildcards.results]
    rows = plan.preset.timings[wildcards.timing].rows
    return [net for row in rows for net in plan.rows[row]]
