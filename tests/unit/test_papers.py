"""The papers' presets: their rows, iterations and data; and the preset that DVC uses."""

from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY

from fspkd.config.load import load_preset
from fspkd.plan import Plan
from fspkd.workflow.results import ResultRule

STAGE = 500 * 390  # of FitNets: epochs times batches, for 50,000 images
PUBLISHED_ITERATIONS = {
    "fsp": {
        "table1": ("cifar10", [192_000, 63_000, 63_000, 98_000, 98_000, 84_000, 126_000]),
        "table2": ("cifar100", [192_000, 63_000, 98_000, 95_000]),
        "table3": ("cifar10", [64_000, 64_000, 99_000, 85_000]),
        "table4": ("cifar100", [64_000, 64_000, 99_000, 96_000]),
        "table5": ("cub200", [30_000, 30_000, 30_000, 65_000, 51_000]),
    },
    "fitnets": {
        "table1": ("cifar10", [2 * STAGE, 474 * 391]),
        "table2": ("cifar100", [2 * STAGE, 474 * 391]),
        "table3": ("svhn", [2 * 500 * 4_674, 151 * 4_675]),
        "table4": ("mnist", [200 * 390, 3 * STAGE, 3 * STAGE, 3 * 2 * STAGE]),
    },
}


@pytest.mark.parametrize("name", ["fsp/paper", "fsp/mini", "fsp/quickstart", "fitnets/paper"])
def test_presets_of_the_repository_have_the_papers_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    plan = Plan(load_preset(Path(f"config/{name}.yaml")))
    for table, (data, published) in PUBLISHED_ITERATIONS[Path(name).parent.name].items():
        rows = plan.preset.tables[table].rows.values()
        iterations = [sum(run.spec.iterations for run in plan.row_runs(row)) for row in rows]
        assert [n * plan.preset.divide_schedules.get(data, 1) for n in iterations] == published


def test_nets_that_tables_share_train_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    plan = Plan(load_preset(Path("config/fsp/paper.yaml")))
    tables = plan.preset.tables
    assert plan.nets(tables["table3"].rows["Teacher-original"]) == plan.nets("teacher")[:1]
    for figures_of in ("student", "student_full"):
        assert {net.start for net in plan.nets(figures_of)} == {plan.net("student/1").start}
    # Tables 1 to 5 as published, without Tables 3 and 4's teachers; Figure 3's students; controls beyond the paper.
    published = 724 + 448 + 248 + 259 + 206 + 3 * 64
    controls = 2 * 3 * (21 + 21) + 3 * 42 + 3 * 21 + 85 + 127 + 64 + 30
    assert sum(run.spec.iterations for run in plan.runs.values()) == (published + controls) * 1000


def test_all_of_fitnets_on_cifar10_learn_from_one_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    plan = Plan(load_preset(Path("config/fitnets/paper.yaml")))
    tables = sum(sum(iterations) for _, iterations in PUBLISHED_ITERATIONS["fitnets"].values())
    # Table 5's FitNets 1 to 3; Figure 2's nets of 2 sizes and 4 depths by backprop, by KD, and by hints and then KD.
    others = 3 * 2 * STAGE + 2 * 4 * (1 + 1 + 2) * 500 * 312
    assert sum(run.spec.iterations for run in plan.runs.values()) == tables + others == 15_110_593


def test_dvc_is_given_all_that_its_preset_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    given = yaml.safe_load(Path("params.yaml").read_text())
    preset = load_preset(Path(given["file"]))
    curves = [name for name, figure in preset.figures.items() if figure.kind == "curves"]
    del given["file"], given["plots"]
    assert given == {
        "results": preset.results,
        "tables": list(preset.tables),
        "figures": curves,
        "other_figures": [name for name in preset.figures if name not in curves],
        "timings": list(preset.timings),
        "claims": ["claims"] if preset.claims else [],
    }


def test_choices_are_compared_without_a_look_at_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    plan = Plan(load_preset(Path("config/fsp/choices.yaml")))
    table = plan.preset.tables["choices"]
    runs = ResultRule(plan, "summary").runs
    assert {run.data.settings.hold_out for run in runs} == {5000}
    assert {run.teacher.data.settings.hold_out for run in runs if run.teacher} == {5000}
    assert [len(plan.nets(row)) for row in table.rows.values()] == [2] * 10 + [1, 2, 1, 2]
    assert {sum(net.spec.iterations for net in plan.row_runs(row)) for row in list(table.rows.values())[:10]} == {
        16_800
    }
    assert (
        len(
            {
                net.stage1.spec.model_copy(update={"row": "", "number": 0})
                for net in plan.shown(table.rows)
                if net.stage1
            }
        )
        == 10
    )


def test_snakemake_looks_at_the_content_of_all_weights() -> None:
    """A larger file counts as changed when it is newer, even with the same content, and students are trained again."""
    profile = yaml.safe_load((REPOSITORY / "profiles/default/config.yaml").read_text())
    largest = 4 * 21_797_672  # bytes of CUB200's ImageNet weights, a ResNet-34; FitNets' teachers have 65 million
    assert profile["max-checksum-file-size"] > 1.05 * largest
