"""What DVC's phases ask of the plan of the preset that params.yaml names."""

from pathlib import Path

from snakemake.io import ancient

from fspkd.config.load import read_yaml
from fspkd.plan import Plan
from fspkd.result import read_by_results, results_of, wanted_by_results
from fspkd.workflow.training import run_outputs

PARAMS = Path("params.yaml")
LISTS = ("tables", "figures", "other_figures", "timings", "claims")  # of what DVC keeps


def dvc_plan(plans: dict[str, Plan]) -> Plan | None:
    """The plan of the preset that params.yaml names, if there is such a file and such a preset."""
    return plans.get(str(read_yaml(PARAMS).get("results"))) if PARAMS.exists() else None


def left_out(plan: Plan) -> list[str]:
    """What a preset makes that params.yaml, if it names the preset, leaves out, so that DVC would not keep it."""
    given = read_yaml(PARAMS) if PARAMS.exists() else {}
    if given.get("results") != plan.preset.results:
        return []
    named = {name for key in LISTS for name in given.get(key) or []}
    made = [Path(result.file).stem for result in results_of(plan)[:-1]]  # without the page
    return [name for name in made if name not in named]


def phase_outputs(plan: Plan, phase: str) -> list[str]:
    """The files of all runs of a phase that results wait for."""
    return [file for run in wanted_by_results(plan) if run.phase == phase for file in run_outputs(run)]


def packed_files(plan: Plan) -> list[str]:
    """The packed data sets and pretrained weights that the results of a preset wait for."""
    return [ancient(str(read.path)) for read in read_by_results(plan)]
