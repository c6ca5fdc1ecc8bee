"""Results from exported nets: those of the nets themselves, and those that are committed."""

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, Project
from finished import finish, measure, predict

import fspkd
from fspkd.config.load import load_preset
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.report.reproduction import export, exported_plan, of_former_settings, recompute
from fspkd.runs import exported as exporting
from fspkd.runs.folder import ExportedFolder
from fspkd.runs.metrics import load_metrics
from fspkd.runs.predictions import load_predictions, save_predictions
from fspkd.saved import SavedRun
from fspkd.weights import weights_sha256

HERE = Path("reproduction/tiny")


def exported(project: Project) -> None:
    export(project.plan())
    recompute(exported_plan("tiny"))


def test_everything_follows_from_the_exported_nets(made: Project) -> None:
    """Without the nets themselves: the same table and figure, and claims of the same values."""
    exported(made)
    shutil.move("results", "away")
    first = {path: path.read_bytes() for path in sorted(HERE.glob("*.*"))}
    for path in first:
        path.unlink()
    recompute(exported_plan("tiny"))
    assert {path: path.read_bytes() for path in sorted(HERE.glob("*.*"))} == first
    for name in ("table1.csv", "figure3.csv"):
        ours, theirs = pd.read_csv(HERE / name), pd.read_csv(Path("away/tiny") / name)
        pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3)  # an ensemble may differ by an image, a loss by rounding
    assert (pd.read_csv(HERE / "table1.csv")["net1"] == pd.read_csv("away/tiny/table1.csv")["net1"]).all()


def test_losses_of_a_long_run_are_exported_as_means_between_tests(
    made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "LOSSES", 8)
    net = made.plan().net("teacher/1")
    frame = pd.DataFrame(
        {"iteration": range(1, 24), "learning_rate": 0.1, "loss": np.arange(1.0, 24), "gradient_norm": 1.0}
    )
    measure(net, frame.assign(test_accuracy=frame["iteration"].map({5: 40.0, 20: 60.0, 23: 70.0})))
    export(made.plan())
    metrics = load_metrics(exported_plan("tiny").net("teacher/1").folder)
    assert metrics["test_accuracy"].dropna().to_dict() == {5: 40, 20: 60, 23: 70}
    ends = [3, 5, 6, 9, 12, 15, 18, 20, 21, 23]
    means = [(first + end) / 2 for first, end in zip([1, *(end + 1 for end in ends)], ends, strict=False)]
    assert metrics["loss"].tolist() == [means[np.searchsorted(ends, iteration)] for iteration in range(1, 24)]


def test_an_exported_net_computes_what_the_original_does(made: Project) -> None:
    export(made.plan(), with_weights=True)
    images = torch.rand(4, *made.plan().net("teacher/1").folder.read_manifest().images.shape)
    nets = [fspkd.results(folder).run("teacher/1").net() for folder in (HERE, "results/tiny")]
    with torch.no_grad():
        assert torch.equal(nets[0](images), nets[1](images))
    file = exported_plan("tiny").net("teacher/1").folder.weights
    shutil.copy(exported_plan("tiny").net("teacher/2").folder.weights, file)
    with pytest.raises(UserError, match=r"teacher-1-\w+/weights.pt: belongs to another run"):
        fspkd.results(HERE).run("teacher/1").net()
    export(made.plan())
    assert file.read_bytes() == made.plan().net("teacher/1").folder.weights.read_bytes(), "brought up to date"


def test_exported_logits_are_right_about_the_same_images(made: Project) -> None:
    """Also if the two highest logits differ only in float32's last bit."""
    net = made.plan().net("teacher/1")
    random = np.random.default_rng(1)
    logits = random.normal(0, 20, (1000, 10)).astype(np.float32)
    top = logits.argmax(1)
    other = (top + 1) % 10
    logits[np.arange(1000), other] = np.nextafter(logits[np.arange(1000), top], -np.inf, dtype=np.float32)
    labels = random.integers(0, 10, 1000)
    save_predictions(net.folder.predictions, logits, labels)
    manifest = net.folder.read_manifest()
    net.folder.write_manifest(manifest.model_copy(update={"outputs_sha256": net.folder.outputs_sha256(2)}))
    export(made.plan())
    again, same = load_predictions(exported_plan("tiny").net("teacher/1").folder.predictions)
    assert (again.argmax(1) == top).all()
    assert (same == labels).all()
    assert exported_plan("tiny").net("teacher/1").folder.predictions.stat().st_size < 25 * 1000


def test_exported_logits_have_the_same_highest_where_float16_has_not(made: Project) -> None:
    """A highest logit that exceeds the others by less than float16's smallest number, or more than its largest."""
    logits = torch.zeros(2, 10)
    logits[0, 3], logits[1, 4] = 1e-8, 7e4
    predict(made.plan().net("teacher/1"), logits, torch.tensor([3, 4]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        export(made.plan())
    again, _ = load_predictions(exported_plan("tiny").net("teacher/1").folder.predictions)
    assert again.argmax(1).tolist() == [3, 4]
    assert np.isfinite(again).all()


def test_cells_of_nets_that_are_not_there_are_empty(made: Project) -> None:
    exported(made)
    exported_plan("tiny").net("student/1").folder.manifest.unlink()
    recompute(exported_plan("tiny"))
    student = pd.read_csv(HERE / "table1.csv").set_index("row").loc["Student*"]
    assert student[["net1", "average", "ensemble", "iterations"]].isna().all()
    assert student["net2"] == pd.read_csv("results/tiny/table1.csv").set_index("row").loc["Student*", "net2"]
    assert student["net1_published"] == 92.28
    claims = pd.read_csv(HERE / "claims.csv")
    assert claims["verdict"].tolist()[:2] == ["not run", "not run"]


def test_nets_of_former_settings_are_named(made: Project) -> None:
    exported(made)
    assert of_former_settings(exported_plan("tiny")) == []
    made.set("rows.student.stage2.schedule", "first")
    former = [folder.name.rpartition("-")[0] for folder in of_former_settings(exported_plan("tiny"))]
    assert former == ["student-1", "student-2"]


def test_results_without_any_net_any_more_are_deleted(made: Project) -> None:
    exported(made)
    made.set("seed", 77)
    recompute(exported_plan("tiny"))
    assert {path.name for path in HERE.glob("*.*")} == {"claims.csv", "claims.html", "claims.md", "nets.csv"}
    assert not (HERE / "metrics" / "table1").exists()


def test_another_preset_that_is_not_valid_and_figures_of_weights_hinder_nothing(made: Project) -> None:
    exported(made)
    made.set("figures.matrices", {"kind": "matrices", "title": "Matrices", "net": "student/1"})
    Path("config/aaa.yaml").write_text("extends: nothing\n")
    Path("results/tiny/matrices.csv").write_text("drawn")
    table = (HERE / "table1.csv").read_bytes()
    exported(made)
    assert (HERE / "matrices.csv").read_text() == "drawn"
    assert (HERE / "table1.csv").read_bytes() == table


def test_damaged_net_is_not_exported(made: Project) -> None:
    weights = made.plan().net("student/2").folder.weights
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"student-2-\w+/weights.pt: does not match the run's manifest"):
        export(made.plan())


def test_nets_that_are_known_by_a_place_of_this_machine_are_not_exported(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project.set("data.images", {"name": "mine", "source": "imagefolder", "path": "there"})
    monkeypatch.setenv("FSPKD_DATA_MINE", str(tmp_path / "here"))
    plan = Plan(load_preset(project.preset_path))
    finish(plan.net("teacher/1"))
    with pytest.raises(
        UserError, match=r"results/tiny: nets on mine are identified by where the images are \(FSPKD_DATA_MINE\)"
    ):
        export(plan)
    assert not HERE.exists()


def test_unknown_preset_is_named(made: Project) -> None:
    result = made.run("python", "scripts/recompute.py", "reproduction/tny")
    assert result.returncode == 1
    assert "reproduction/tny: no preset in config/ is called 'tny'" in result.stderr
    result = made.run("python", "scripts/recompute.py", "results/tiny")
    assert result.returncode == 1
    assert "results/tiny: exported nets are in folders of reproduction" in result.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "reproduction").glob("*/")))
def test_committed_results_are_those_of_the_committed_nets(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(REPOSITORY / "config", "config")
    shutil.copytree(REPOSITORY / "reproduction" / name, f"reproduction/{name}")
    place = Path("reproduction", name)
    committed = {path.name: path.read_bytes() for kind in ("csv", "md") for path in place.glob(f"*.{kind}")}
    plan = exported_plan(name)
    assert not of_former_settings(plan)
    recompute(plan)
    again = {path.name: path.read_bytes() for kind in ("csv", "md") for path in place.glob(f"*.{kind}")}
    assert again == committed


def test_committed_nets_are_small_and_have_the_weights_of_their_manifests() -> None:
    weights = 0
    for run in REPOSITORY.glob("reproduction/*/runs/*/*"):
        sizes = {file.name: file.stat().st_size for file in run.iterdir()}
        weights += sizes.pop("weights.pt", 0) > 0
        logits = load_predictions(run / "predictions.npz")[0].size if "predictions.npz" in sizes else 0
        assert sum(sizes.values()) <= 60_000 + 1.9 * logits, run  # 250 KB with 10,000 images of ten classes
        if (run / "weights.pt").exists():
            saved = SavedRun(ExportedFolder(run))
            assert weights_sha256(saved.net().state_dict()) == saved.manifest.weights_sha256
    assert weights


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_pages_show_the_tables_that_are_committed(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    quoted = re.findall(r"<!-- (reproduction/\S+) -->\n\n((?:\|.*\n)+)", text)
    assert quoted
    for path, table in quoted:
        assert table.strip() == (REPOSITORY / path).read_text().split("\n\n")[1].strip(), path


def test_every_column_of_results_is_explained() -> None:
    page = (REPOSITORY / "docs" / "files.md").read_text()
    columns = {name for csv in REPOSITORY.glob("reproduction/*/*.csv") for name in pd.read_csv(csv, nrows=0)}
    # A curve's label comes before ": ", and nets and rounds are numbered.
    own = {re.sub(r"^(net|round)\d+$", r"\g<1>1", name) for name in columns if ": " not in name}
    explained = {re.sub(r".*(_published|_ci95)$", r"…\1", name) for name in own}
    assert len(explained) > 40
    assert [name for name in sorted(explained) if f"`{name}`" not in page] == []


def test_nets_are_listed_with_where_they_are_shown(made: Project) -> None:
    exported(made)
    nets = pd.read_csv(HERE / "nets.csv", keep_default_na=False).set_index("run")
    plan = made.plan()
    shown = {
        run.id: f"table1: {label}" for label, row in plan.preset.tables["table1"].rows.items() for run in plan.nets(row)
    }
    assert nets["shown_as"].to_dict() == {run: shown.get(run, "") for run in nets.index}
    student = plan.net("student/2")
    line = nets.loc[student.id]
    assert (line["row"], line["number"], line["stage"], line["held_out"]) == ("student", "2", 2, 0)
    assert (line["start"], line["teacher"]) == (student.start.id, "")
