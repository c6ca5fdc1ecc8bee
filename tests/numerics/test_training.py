"""The engine: equal to a plain loop, repeatable to the bit, and resumable at any moment."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, Project
from torch.nn import functional as F

from fspkd.augment import crop_and_flip, pad_images, to_input
from fspkd.data import PackedData, load_packed, save_packed
from fspkd.errors import UserError
from fspkd.plan import Run
from fspkd.train import checkpoint, loop
from fspkd.train.batches import Batches
from fspkd.train.schedule import learning_rate, progress


def weights(run: Run) -> dict[str, torch.Tensor]:
    return checkpoint.load_weights(run.folder, run.id)


def manifest(run: Run) -> dict:
    return json.loads((run.folder / "manifest.json").read_text())


def test_engine_equals_a_plain_loop(project: Project) -> None:
    """Stages 1 and 2 of the FitNet and FSP rows, an optimiser step at a time in contiguous memory."""
    project.set("training.decay_batchnorm", False)
    project.train("fitnet/1", "student/1")
    plan = project.plan()
    for run in (plan.net("fitnet/1"), plan.net("student/1"), plan.net("fitnet/1").start, plan.net("student/1").start):
        data = load_packed(run.data.path)
        net = loop.finished_net(run.start, data) if run.start else loop.initial_net(run, data)
        teacher = loop.finished_net(run.teacher, data).eval() if run.teacher else None
        objective = loop.OBJECTIVES[run.spec.method.method](
            run.spec.method, run.spec.seed, run.spec.stream, run.spec.network, run.spec.network
        )
        norms = {
            id(p) for n, m in net.named_modules() if ".bn" in n or n in ("stem.0", "stem.2") for p in m.parameters()
        }
        names = [n for n, _ in net.named_parameters()] if run.stage == 2 else []
        last = {"hint": ("stem", "section1", "section2"), "fsp": ("stem", "section1", "section2", "section3")}
        names = names or [n for n, _ in net.named_parameters() if n.startswith(last[run.spec.method.method])]
        trained = [p for n, p in net.named_parameters() if n in names] + list(objective.parameters())
        momentum = {id(p): torch.zeros_like(p) for p in trained}
        batches = Batches(data, run.spec, torch.device("cpu"))
        for iteration in range(run.iterations):
            x, y = batches(iteration)
            loss = objective(net.train(), teacher, x.contiguous(), y, progress(run.spec.schedule, iteration))
            grads = torch.autograd.grad(loss, trained)
            with torch.no_grad():
                for p, g in zip(trained, grads, strict=True):
                    decay = 0.0 if id(p) in norms else 1e-4
                    momentum[id(p)] = 0.9 * momentum[id(p)] + g + decay * p
                    p -= learning_rate(run.spec.schedule, iteration) * momentum[id(p)]
        for name, tensor in net.state_dict().items():
            torch.testing.assert_close(weights(run)[name], tensor, rtol=1e-4, atol=1e-5, msg=f"{run.id} {name}")


def test_linear_layer_leaves_stage_1_as_it_entered(project: Project) -> None:
    project.train("student/1", "fitnet/1")
    plan = project.plan()
    for run in (plan.net("student/1").start, plan.net("fitnet/1").start):
        before = loop.initial_net(run, load_packed(run.data.path)).state_dict()
        after = weights(run)
        assert not torch.equal(before["section1.0.conv1.weight"], after["section1.0.conv1.weight"])
        for name in ("linear.weight", "linear.bias"):
            assert torch.equal(before[name], after[name])
        beyond = before["section3.0.bn1.running_mean"], after["section3.0.bn1.running_mean"]
        assert torch.equal(*beyond) == (run.spec.method.method == "hint")  # hints end at section 2


def test_same_seed_same_bits_and_another_seed_others(project: Project) -> None:
    project.train("student/2")
    first = {run.id: manifest(run)["weights_sha256"] for run in project.plan().runs.values() if run.folder.exists()}
    shutil.rmtree("results")
    project.train("student/2")
    second = {run.id: manifest(run)["weights_sha256"] for run in project.plan().runs.values() if run.folder.exists()}
    assert first == second
    assert len(set(first.values())) == len(first) == 3
    project.set("seed", 2)
    project.train("student/2")
    assert manifest(project.plan().net("student/2"))["weights_sha256"] not in first.values()


def test_nets_that_share_stage_1_differ_after_stage_2(project: Project) -> None:
    project.train("student/1", "student/2")
    one, two = project.plan().rows["student"]
    assert one.start is two.start
    assert manifest(one)["weights_sha256"] != manifest(two)["weights_sha256"]


def test_last_accuracy_is_that_of_the_predictions(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    metrics = pd.read_csv(run.folder / "metrics.csv")
    with np.load(run.folder / "predictions.npz") as file:
        expected = 100 * (file["probabilities"].argmax(1) == file["labels"]).mean()
        assert file["probabilities"].sum(1) == pytest.approx(1, abs=1e-5)
    assert metrics["test_accuracy"].iloc[-1] == pytest.approx(expected, abs=1e-4)
    assert manifest(run)["test_accuracy"] == pytest.approx(expected, abs=1e-4)
    assert list(metrics["iteration"]) == list(range(1, 21))
    assert list(metrics.dropna(subset="test_accuracy")["iteration"]) == [5, 10, 15, 20]
    assert list(metrics["learning_rate"]) == [0.1] * 12 + [0.01] * 8


def test_killed_at_random_moments_and_resumed_ends_with_the_same_bits(project: Project) -> None:
    """SIGKILL five times; the stage of hints, whose regressors and momentum must come back too."""
    project.set("schedules.first", [{"until": 700, "rate": 1e-4}, {"until": 900, "rate": 1e-5}])
    project.train("teacher/1")
    run = project.plan().net("fitnet/1").start
    command = [sys.executable, REPOSITORY / "scripts" / "train.py", run.folder, "--checkpoint-seconds", "0.05"]
    growing = run.folder / "metrics.partial.csv"
    draw = random.Random(0)
    for _ in range(5):
        size = growing.stat().st_size if growing.exists() else 0
        process = subprocess.Popen(command, start_new_session=True)
        while process.poll() is None and (not growing.exists() or growing.stat().st_size <= size):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.4))
        assert process.poll() is None, "the training ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (run.folder / "manifest.json").exists()
    subprocess.run(command, check=True)
    killed = manifest(run)
    starts = [attempt["from_iteration"] for attempt in killed["attempts"]]
    assert starts == sorted(starts)
    assert 0 < starts[-1] < 900
    metrics = (run.folder / "metrics.csv").read_bytes()
    assert list(pd.read_csv(run.folder / "metrics.csv")["iteration"]) == list(range(1, 901))

    shutil.rmtree(run.folder)
    loop.train(run, torch.device("cpu"), 1000)
    assert len(manifest(run)["attempts"]) == 1
    assert manifest(run)["weights_sha256"] == killed["weights_sha256"]
    assert (run.folder / "metrics.csv").read_bytes() == metrics


def test_death_while_finishing_and_removed_outputs_cost_no_iteration(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project.plan().net("teacher/1")

    def die(path: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "file_sha256", die)  # after the outputs, before the manifest
        with pytest.raises(KeyboardInterrupt):
            project.train("teacher/1")
    assert not (run.folder / "manifest.json").exists()
    project.train("teacher/1")
    first = manifest(run)
    metrics = (run.folder / "metrics.csv").read_bytes()
    for file in ("manifest.json", "weights.pt", "metrics.csv", "predictions.npz"):
        (run.folder / file).unlink()
    project.train("teacher/1")
    assert [attempt["from_iteration"] for attempt in manifest(run)["attempts"]] == [0, 20, 20]
    assert manifest(run)["outputs_sha256"] == first["outputs_sha256"]
    assert (run.folder / "metrics.csv").read_bytes() == metrics


def test_finished_checkpoint_of_other_code_or_images_is_not_used(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    (run.folder / "manifest.json").unlink()
    other = {**loop.provenance(), "package_sha256": "other code"}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "provenance", lambda: other)
        project.train("teacher/1")
    assert [attempt["from_iteration"] for attempt in manifest(run)["attempts"]] == [0]
    (run.folder / "manifest.json").unlink()
    data = load_packed(run.data.path)
    data.images["train"][0] ^= 1
    save_packed(PackedData(data.images, data.labels, data.classes, data.source), run.data.path)
    project.train("teacher/1")
    assert len(manifest(run)["attempts"]) == 1
    assert manifest(run)["data_sha256"] == load_packed(run.data.path).sha256


def test_sigterm_saves_a_checkpoint(project: Project) -> None:
    project.set("schedules.long", [{"until": 5000, "rate": 0.01}])
    run = project.plan().net("teacher/1")
    command = [sys.executable, REPOSITORY / "scripts" / "train.py", run.folder, "--checkpoint-seconds", "1000"]
    process = subprocess.Popen(command)
    growing = run.folder / "metrics.partial.csv"
    while not growing.exists() or growing.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    saved = checkpoint.load(run.folder / "checkpoint.pt", run.id, "")
    assert saved["iteration"] == growing.read_bytes().count(b"\n") - 1


def test_loss_that_is_not_finite_names_run_step_and_setting(project: Project) -> None:
    project.set("rows.student.stage1.reduction", "sum")
    project.set("schedules.first", [{"until": 40, "rate": 1e6}])
    with pytest.raises(
        UserError, match=r"student-stage1-\w+: iteration \d+: the .* is (nan|inf).*reduction = 'sum'.*1e\+06"
    ):
        project.train("student/1")
    run = project.plan().net("student/1").start
    assert not (run.folder / "weights.pt").exists()


def test_checkpoint_of_another_run_is_refused(project: Project) -> None:
    run = project.plan().net("teacher/1")
    checkpoint.save({"run": "teacher-2-0000000000", "iteration": 3}, run.folder / "checkpoint.pt")
    with pytest.raises(
        UserError, match=r"checkpoint.pt: belongs to another run: .*teacher-2-0000000000.*Delete the folder"
    ):
        project.train("teacher/1")


def test_damaged_checkpoint_and_weights_are_named(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    path = run.folder / "weights.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights.pt: .*(damaged|checksum).*snakemake"):
        project.train("fitnet/1")
    other = project.plan().net("teacher/2")
    other.folder.mkdir(parents=True)
    (other.folder / "checkpoint.pt").write_bytes(b"half a checkpoint")
    with pytest.raises(UserError, match=r"checkpoint.pt: this file is damaged"):
        project.train("teacher/2")


def test_two_processes_cannot_train_one_run(project: Project) -> None:
    from filelock import FileLock

    run = project.plan().net("teacher/1")
    run.folder.mkdir(parents=True)
    with FileLock(run.folder / "lock"), pytest.raises(UserError, match="another process is training this run"):
        project.train("teacher/1")


def test_batches_are_a_function_of_the_iteration(project: Project) -> None:
    run = project.plan().net("teacher/1")
    data = load_packed(run.data.path)
    onwards = [Batches(data, run.spec, torch.device("cpu"))(i)[0] for i in (0, 1, 90, 91)]
    jumping = Batches(data, run.spec, torch.device("cpu"))
    for i, expected in reversed(list(zip((0, 1, 90, 91), onwards, strict=True))):
        assert torch.equal(jumping(i)[0], expected)


def test_every_image_is_seen_once_an_epoch_whatever_the_batch(project: Project) -> None:
    run = project.plan().net("teacher/1")
    data = load_packed(run.data.path)
    count = len(data.labels["train"])
    batches = Batches(data, run.spec, torch.device("cpu"))
    size = run.spec.training.batch_size
    order = np.concatenate(
        [batches._images_at(np.arange(i * size, (i + 1) * size)) for i in range(2 * count // size + 1)]
    )
    assert sorted(order[:count]) == sorted(order[count : 2 * count]) == list(range(count))
    assert list(order[:count]) != list(order[count : 2 * count])


def test_crop_and_flip_equal_torchvision_on_the_same_offsets() -> None:
    from torchvision.transforms import functional as vision

    images = torch.randint(0, 256, (20, 32, 32, 3), dtype=torch.uint8)
    index, offsets, flips = torch.randint(0, 20, (50,)), torch.randint(0, 9, (50, 2)), torch.rand(50) < 0.5
    ours = to_input(crop_and_flip(pad_images(images, 4), index, offsets, flips, (32, 32)))
    for i in range(50):
        image = vision.pad(images[index[i]].permute(2, 0, 1), 4)
        image = vision.crop(image, *offsets[i].tolist(), 32, 32)
        image = vision.hflip(image) if flips[i] else image
        assert torch.equal(ours[i], vision.convert_image_dtype(image, torch.float32))


def test_plain_test_images_reach_the_net_unchanged(project: Project) -> None:
    """Predictions equal those of the finished net on the packed test images, divided by 255 and nothing else."""
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    data = load_packed(run.data.path)
    net = loop.finished_net(run, data).eval()
    x = torch.from_numpy(data.images["test"]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad(), np.load(run.folder / "predictions.npz") as file:
        torch.testing.assert_close(torch.from_numpy(file["probabilities"]), F.softmax(net(x), 1), rtol=1e-4, atol=1e-5)
