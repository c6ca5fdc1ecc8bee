"""
The presets in config/, resolved into plans, and the functions that the rules ask for their inputs.

PLANS maps a folder of results to the plan of the preset that writes it.
"""

from snakemake.exceptions import WorkflowError

from fspkd import terminal
from fspkd.errors import UserError
from fspkd.plan import load_plans
from fspkd.runs.folder import PHASES
from fspkd.runs.spec import with_origins
from fspkd.workflow import *

MEMBERS = config.get("members", 1)  # nets that a training job trains side by side

if not isinstance(MEMBERS, int) or MEMBERS < 1:
    raise WorkflowError(
        f"--config members={MEMBERS}: must be a whole number, 1 or more: the nets that one job trains."
    )

if unknown := sorted(config.keys() - {"members"}):
    raise WorkflowError(
        f"--config {unknown[0]}: unknown key; the only one is members. Settings are given by a preset in config/."
    )

OF_OTHER_CODE = set()  # of the runs that results show, and of those that these rest on

try:
    PLANS, PROBLEMS = load_plans()  # these stop nothing but what their presets make
except UserError as error:
    raise WorkflowError(str(error))


def quietly(wildcards, output):
    """
    What keeps what jobs print to their logs from the terminal, where a view tells it. As a param that depends on outputs it
    makes nothing anew.
    """
    return "> /dev/null" if terminal.is_live else ""


def result(kind):
    """
    The result that wildcards name, such as the table {table} of {results}.
    """
    return lambda wildcards: ResultRule(
        PLANS[wildcards.results], kind, wildcards.get(kind)
    )


def pictured(wildcards):
    """
    The table, or the claims, that a picture is of.
    """
    plan, name = PLANS[wildcards.results], wildcards.picture
    return (
        ResultRule(plan, "claims")
        if name == "claims"
        else ResultRule(plan, "table", name)
    )


def needs(kind):
    """
    The inputs of a result of that kind, by name.

    Nets that it shows and that are gone are trained again, though Snakemake by itself makes no missing file again from which
    nothing newer is to be made.
    """

    def inputs(wildcards):
        found = result(kind)(wildcards)
        workflow.dag.forcefiles.update(found.gone())
        OF_OTHER_CODE.update(
            run.id for run in with_origins(found.nets) if run.is_of_other_code
        )
        return found.inputs()

    return inputs


def decides(kind):
    """
    The settings and runs that decide a result of that kind.
    """
    return lambda wildcards: result(kind)(wildcards).decided_by()


wildcard_constraints:
    results=one_of(PLANS),
    table=names_in(PLANS, "tables"),
    timing=names_in(PLANS, "timings"),
