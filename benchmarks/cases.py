"""The kinds of training that are measured, on untrained nets and images of noise."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from fspkd.config.data import Augment
from fspkd.config.load import load_preset
from fspkd.data.packed import PackedData, save_packed
from fspkd.engine.batches import Images
from fspkd.plan import Plan
from fspkd.runs.folder import ImageFacts, Manifest
from fspkd.runs.spec import Run
from fspkd.train.nets import initial_net
from fspkd.weights import save_weights

CONFIG = Path(__file__).parent.parent / "config"
CASES = {  # the paper, the row and the stage that stand for each kind of training
    "scratch": ("fsp", "teacher", 2),
    "stage 1, FSP": ("fsp", "student_shuffled", 1),
    "stage 1, hints": ("fsp", "fitnet_3_losses", 1),
    "stage 2, KD": ("fsp", "fitnet_3_losses", 2),
    "FitNet 1, hint": ("fitnets", "fitnet1", 1),
    "FitNet 1, KD": ("fitnets", "fitnet1", 2),
}
BATCH = 128


def runs_of(case: str, members: int) -> list[Run]:
    paper, row, stage = CASES[case]
    nets = Plan(load_preset(Path(f"config/bench_{paper}.yaml")), {}).rows[row][:members]
    return [net.start for net in nets] if stage == 1 else nets


def make_project(depth: int, width: int, precision: str) -> None:
    """Write presets to the working directory, their data, and untrained weights where a case needs trained ones.

    ResNets have that depth and width; FitNets and their teachers are the paper's at width 16, and scale with it.
    """
    Path("config/fsp").mkdir(parents=True)
    shutil.copy(CONFIG / "fsp" / "paper.yaml", "config/fsp")
    shutil.copytree(CONFIG / "fsp" / "reference", "config/fsp/reference")  # its tables name these
    training = {"batch_size": BATCH, "precision": precision, "evaluate_every": 10**8}
    presets = {"fsp": _fsp(depth, width, training), "fitnets": _fitnets(width, training)}
    for paper, preset in presets.items():
        Path(f"config/bench_{paper}.yaml").write_text(yaml.safe_dump(preset))
    draw = np.random.default_rng(0)
    pixels = {
        "fsp": lambda n: draw.integers(0, 256, (n, 32, 32, 3), np.uint8),
        "fitnets": lambda n: draw.standard_normal((n, 32, 32, 3), np.float32),  # like whitened images
    }
    counts = {"fsp": 10_000, "fitnets": 256}  # so few that the teacher's outputs for all take seconds
    for paper, noise in pixels.items():
        images = {"train": noise(counts[paper]), "test": noise(100)}
        labels = {split: draw.integers(0, 10, len(of_split)) for split, of_split in images.items()}
        data = PackedData(images, labels, [str(i) for i in range(10)], "noise")
        runs = [run for case in CASES if CASES[case][0] == paper for run in runs_of(case, 3)]
        save_packed(data, runs[0].data.path)
        finished = [other for run in runs for other in (run.start, run.teacher) if other]
        for run in dict.fromkeys(finished):
            state = initial_net(run, Images(data, Augment(), torch.device("cpu"))).state_dict()
            sha256 = save_weights(dict(state), run.weights, run.id)
            facts = ImageFacts(shape=(data.images["test"].shape[3], 32, 32), classes=tuple(data.classes))
            untrained = {"iterations": 0, "test_accuracy": None, "finished": "never", "seconds": 0, "attempts": ()}
            made = {"inputs_sha256": {}, "outputs_sha256": {}, "weights_sha256": sha256}
            run.folder.write_manifest(Manifest(run=run.id, images=facts, **made, **untrained))


def _fsp(depth: int, width: int, training: dict[str, Any]) -> dict[str, Any]:
    return {
        "extends": "fsp/paper",
        "results": "results/bench_fsp",
        "claims": None,
        "data": {"cifar10": {"name": "noise", "source": "imagefolder", "path": ".", "augment": {"pad": 4}}},
        "networks": {
            **{name: {"depth": depth, "width": width} for name in ("teacher", "student")},
            "small_student": {"width": width},
        },
        "schedules": {name: [{"until": 10**8, "rate": 1e-5}] for name in ("full", "third", "fsp", "hint")},
        "training": training,
        "rows": {"fitnet_3_losses": {"stage1_shared": False}},
    }


def _fitnets(width: int, training: dict[str, Any]) -> dict[str, Any]:
    """The rows of CIFAR-10's teacher and FitNet 1; weights are drawn so that maps and gradients are not denormal."""
    paper = yaml.safe_load((CONFIG / "fitnets" / "paper.yaml").read_text())
    networks = {name: {**paper["networks"][name], "init": "unit"} for name in ("teacher_cifar", "fitnet1")}
    for network in networks.values():
        for layer in network["layers"]:
            layer.update({key: layer[key] * width // 16 for key in ("conv", "full") if key in layer})
    return {
        "results": "results/bench_fitnets",
        "seed": 1,
        "data": {"cifar10": {"name": "white", "source": "imagefolder", "path": ".", "augment": {"flip": True}}},
        "networks": networks,
        "schedules": {name: [{"until": 10**8, "rate": 1e-5}] for name in ("teacher", "stage")},
        "training": {**paper["training"], **training},
        "rows": {
            "teacher": paper["rows"]["teacher"],
            "fitnet1": {**paper["rows"]["fitnet1"], "nets": 3, "stage1_shared": False},
        },
        "tables": {"table": {"title": "The rows", "rows": {"FitNet": "fitnet1"}}},
    }
