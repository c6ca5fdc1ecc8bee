"""Malicious files. An attack prepares them, and returns the script that reads them."""

import io
import json
import os
import pickle
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from conftest import Project
from finished import vouch
from image_folders import own_images
from PIL import Image

from fspkd.weights import save

TOUCH = "touch hacked"
ENTITIES = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>'
Attack = Callable[[Project], tuple[str, ...]]


class Evil:
    """An object that runs a command when unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, (TOUCH,)


# --- Files of runs and packed data --------------------------------------------------------------------------


def train(project: Project, net: str = "student/1") -> tuple[str, ...]:
    return "scripts/train.py", "results/tiny", project.plan().net(net).id


def table(project: Project) -> tuple[str, ...]:
    return "scripts/make_table.py", "results/tiny/table1.csv"


def checkpoint_that_is_a_pickle(project: Project) -> tuple[str, ...]:
    run = project.plan().net("teacher/2")
    shutil.rmtree(run.folder.path)
    run.folder.path.mkdir()
    run.folder.checkpoint.write_bytes(pickle.dumps(Evil()))
    return train(project, "teacher/2")


def checkpoint_with_a_pickle_in_it(project: Project) -> tuple[str, ...]:
    run = project.plan().net("teacher/2")
    shutil.rmtree(run.folder.path)
    run.folder.path.mkdir()
    torch.save({"run": run.id, "iteration": 3, "net": Evil()}, run.folder.checkpoint)
    return train(project, "teacher/2")


def teacher_with_a_pickle_in_it(project: Project) -> tuple[str, ...]:
    plan = project.plan()
    teacher = plan.net("teacher/1")
    torch.save({"run": teacher.id, "sha256": "0", "state": Evil()}, teacher.folder.weights)
    vouch(teacher)
    shutil.rmtree(plan.net("fitnet/1").folder.path)
    return train(project, "fitnet/1")


def teacher_of_other_shapes(project: Project) -> tuple[str, ...]:
    plan = project.plan()
    teacher = plan.net("teacher/1")
    save({"run": teacher.id, "sha256": "0", "state": {"conv1.weight": torch.zeros(1)}}, teacher.folder.weights)
    vouch(teacher)
    shutil.rmtree(plan.net("fitnet/1").folder.path)
    return train(project, "fitnet/1")


def predictions_with_a_pickle_in_them(project: Project) -> tuple[str, ...]:
    run = project.plan().net("student/1")
    np.savez(run.folder.predictions, logits=np.array([Evil()], object), labels=np.array([Evil()], object))
    vouch(run)
    return table(project)


def array_larger_than_memory(name: str) -> bytes:
    """An .npz with an array that claims to have a petabyte."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(f"{name}.npy", header.getvalue())
    return content.getvalue()


def predictions_that_claim_a_petabyte(project: Project) -> tuple[str, ...]:
    run = project.plan().net("student/1")
    run.folder.predictions.write_bytes(array_larger_than_memory("logits"))
    vouch(run)
    return table(project)


def packed_data_with_a_pickle_in_it(project: Project) -> tuple[str, ...]:
    data = project.plan().data["images"].path
    np.savez(data, facts=np.array([Evil()], object))
    shutil.rmtree(project.plan().net("teacher/2").folder.path)
    return train(project, "teacher/2")


def packed_data_that_claims_a_petabyte(project: Project) -> tuple[str, ...]:
    project.plan().data["images"].path.write_bytes(array_larger_than_memory("facts"))
    shutil.rmtree(project.plan().net("teacher/2").folder.path)
    return train(project, "teacher/2")


def journal_of_deep_brackets(project: Project) -> tuple[str, ...]:
    run = project.plan().net("teacher/2")
    run.folder.journal.write_text("[" * 100_000 + "\n")
    run.folder.manifest.unlink()
    return train(project, "teacher/2")


def manifest_of_deep_brackets(project: Project) -> tuple[str, ...]:
    project.plan().net("student/1").folder.manifest.write_text('{"a":' + "[" * 100_000)
    return table(project)


def manifest_with_a_huge_number(project: Project) -> tuple[str, ...]:
    manifest = project.plan().net("student/1").folder.manifest
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content).replace('"iterations": 8', '"iterations": ' + "9" * 5000))
    return table(project)


def folder_in_place_of_weights(project: Project) -> tuple[str, ...]:
    weights = project.plan().net("student/1").folder.weights
    weights.unlink()
    weights.mkdir()
    return train(project)


def fifo_in_place_of_predictions(project: Project) -> tuple[str, ...]:
    predictions = project.plan().net("student/1").folder.predictions
    predictions.unlink()
    os.mkfifo(predictions)
    return table(project)


# --- Presets ------------------------------------------------------------------------------------------------


def preset(project: Project, text: str | bytes) -> tuple[str, ...]:
    """A script that reads the tiny preset with `text` at its end."""
    content = project.preset_path.read_bytes() + (text if isinstance(text, bytes) else text.encode())
    project.preset_path.write_bytes(content)
    return "scripts/train.py", "results/tiny", "teacher-1"


def tag_of_python(project: Project) -> tuple[str, ...]:
    return preset(project, f"\nabout: !!python/object/apply:os.system [{TOUCH}]\n")


def deep_brackets(project: Project) -> tuple[str, ...]:
    return preset(project, "\nabout: " + "[" * 200_000 + "]" * 200_000)


def aliases_of_aliases(project: Project) -> tuple[str, ...]:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12)]
    return preset(project, "\n" + "\n".join(lines))


def alias_of_itself(project: Project) -> tuple[str, ...]:
    return preset(project, "\nabout: &a [*a]\n")


def number_of_5000_digits(project: Project) -> tuple[str, ...]:
    project.set("seed", ...)
    return preset(project, "\nseed: " + "9" * 5000)


def batch_of_40_digits(project: Project) -> tuple[str, ...]:
    project.set("training.batch_size", 10**40)
    return preset(project, "")


def billions_of_nets(project: Project) -> tuple[str, ...]:
    project.set("rows.student.nets", 10**12)
    return preset(project, "")


def network_of_trillions_of_channels(project: Project) -> tuple[str, ...]:
    project.set("networks.net.width", 10**13)
    shutil.rmtree("results")
    return train(project, "teacher/1")


def network_of_more_bytes_than_an_integer_counts(project: Project) -> tuple[str, ...]:
    layers = [{"conv": 9 * 10**15, "kernel": 8, "pieces": 5}, {"full": 4}]
    project.set("networks.huge", {"architecture": "maxout", "layers": layers})
    project.set("rows.huge", {**project.content["rows"]["teacher"], "network": "huge"})
    return train(project, "huge/1")


def zeros_in_text(project: Project) -> tuple[str, ...]:
    return preset(project, b"\nabout: \0\0\xff\xfe\n")


def pipe_in_place_of_a_preset(project: Project) -> tuple[str, ...]:
    project.preset_path.unlink()
    os.mkfifo(project.preset_path)
    return "scripts/train.py", "results/tiny", "teacher-1"


def preset_extends_a_file_of_the_system(project: Project) -> tuple[str, ...]:
    return preset(project, "\nextends: ../../../../../../etc/passwd\n")


def results_outside(project: Project) -> tuple[str, ...]:
    project.set("results", "results/../../hacked")
    return "scripts/train.py", "results/../../hacked", "teacher-1"


def results_with_a_command(project: Project) -> tuple[str, ...]:
    project.set("results", f"results/$({TOUCH})")
    return "scripts/train.py", f"results/$({TOUCH})", "teacher-1"


def row_with_a_command(project: Project) -> tuple[str, ...]:
    project.set(f"rows.$({TOUCH})", project.content["rows"]["teacher"])
    return preset(project, "")


def table_with_a_command(project: Project) -> tuple[str, ...]:
    project.set(f"tables.; {TOUCH};", project.content["tables"]["table1"])
    return preset(project, "")


def data_with_a_path(project: Project) -> tuple[str, ...]:
    project.set("data.images.name", "../../hacked")
    return preset(project, "")


def reference_outside(project: Project) -> tuple[str, ...]:
    project.set("tables.table1.reference", "../../../../../../etc/passwd")
    return table(project)


def claims_outside(project: Project) -> tuple[str, ...]:
    project.set("claims", "../../../../../../etc/passwd")
    return "scripts/judge_claims.py", "results/tiny/claims.csv"


# --- Images -------------------------------------------------------------------------------------------------


def pack(project: Project) -> tuple[str, ...]:
    return "scripts/pack.py", str(project.plan(os.environ).data["images"].path)


def image(make: Callable[[Path], object]) -> Attack:
    """Put something else in an image's place."""

    def attack(project: Project) -> tuple[str, ...]:
        path = own_images(project)
        path.unlink()
        make(path)
        return pack(project)

    return attack


def listen(path: Path) -> None:
    os.chdir(path.parent)  # socket paths must be short
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path.name)
    os.chdir(path.parents[3])


def postscript(path: Path) -> None:
    commands = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(%pipe%{TOUCH}) (w) file closefile\nshowpage\n"
    path.write_text(commands + "%%EOF\n")


def archive(name: str, add: Callable[[object], object]) -> Attack:
    """Read images from an archive that has something extra in it."""

    def attack(project: Project) -> tuple[str, ...]:
        own_images(project, name)
        with zipfile.ZipFile(name, "w") if name.endswith(".zip") else tarfile.open(name, "w") as file:
            for path in sorted(Path("images").rglob("*.png")):
                file.write(path) if name.endswith(".zip") else file.add(path)
            add(file)
        return pack(project)

    return attack


def member(name: str, **facts: object) -> Callable[[tarfile.TarFile], None]:
    def add(file: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        for key, value in facts.items():
            setattr(info, key, value)
        file.addfile(info, io.BytesIO(bytes(info.size)))

    return add


def through_a_link(file: tarfile.TarFile) -> None:
    member("images/train/ant/out", type=tarfile.SYMTYPE, linkname="../../../../")(file)
    member("images/train/ant/out/hacked", size=1)(file)


def link_in_a_zip(file: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("images/train/ant/out.png")
    info.external_attr = 0o120777 << 16
    file.writestr(info, "/etc/passwd")


def batches_of_cifar_with_a_pickle(project: Project) -> tuple[str, ...]:
    folder = project.folder / "cifar" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Evil()))
    project.set("data.images", {"name": "cifar10", "source": "torchvision", "dataset": "CIFAR10"})
    os.environ["FSPKD_DATA_CIFAR10"] = str(folder.parent)
    return pack(project)


def place_of_data_with_a_command(project: Project) -> tuple[str, ...]:
    project.set("data.images", {"name": "cifar10", "source": "torchvision", "dataset": "CIFAR10"})
    os.environ["FSPKD_DATA_CIFAR10"] = f"$({TOUCH})"
    return pack(project)


REFUSED: dict[str, tuple[Attack, str]] = {
    "a teacher's weights with a pickle in them": (teacher_with_a_pickle_in_it, "weights.pt: this file is damaged"),
    "a teacher's weights of other shapes": (teacher_of_other_shapes, "weights.pt"),
    "predictions with a pickle in them": (predictions_with_a_pickle_in_them, "predictions.npz"),
    "predictions that claim a petabyte": (predictions_that_claim_a_petabyte, "predictions.npz"),
    "packed data with a pickle in it": (packed_data_with_a_pickle_in_it, "this packed data set is damaged"),
    "packed data that claim a petabyte": (packed_data_that_claims_a_petabyte, "not enough memory"),
    "a manifest of 100,000 brackets": (manifest_of_deep_brackets, "manifest.json"),
    "a manifest with a number of 5,000 digits": (manifest_with_a_huge_number, "manifest.json"),
    "a folder in place of weights": (folder_in_place_of_weights, "weights.pt: cannot be written: Is a directory"),
    "a FIFO in place of predictions": (fifo_in_place_of_predictions, "predictions.npz"),
    "a preset with a tag of Python's": (tag_of_python, "tiny.yaml"),
    "a preset with 200,000 brackets": (deep_brackets, "tiny.yaml"),
    "a preset with aliases of aliases": (aliases_of_aliases, "tiny.yaml"),
    "a preset with an alias of itself": (alias_of_itself, "tiny.yaml"),
    "a seed of 5,000 digits": (number_of_5000_digits, "tiny.yaml"),
    "a batch of 40 digits": (batch_of_40_digits, "training.batch_size"),
    "a row of 10^12 nets": (billions_of_nets, "rows.student.nets"),
    "a network of 10^13 channels": (network_of_trillions_of_channels, "not enough memory"),
    "a network of more bytes than an integer counts": (
        network_of_more_bytes_than_an_integer_counts,
        "not enough memory",
    ),
    "a preset with zeros in it": (zeros_in_text, "tiny.yaml"),
    "a FIFO in place of a preset": (pipe_in_place_of_a_preset, "tiny.yaml: is not a file"),
    "a preset that extends /etc/passwd": (preset_extends_a_file_of_the_system, "extends"),
    "results outside the project": (results_outside, "results"),
    "results with a command in their name": (results_with_a_command, "results"),
    "a row with a command in its name": (row_with_a_command, "rows"),
    "a table with a command in its name": (table_with_a_command, "tables"),
    "a data set with a path in its name": (data_with_a_path, "data.images.name"),
    "published numbers in /etc/passwd": (reference_outside, "reference"),
    "claims in /etc/passwd": (claims_outside, "claims"),
    "a FIFO among images": (image(os.mkfifo), "0.png: is not a file"),
    "a socket among images": (image(listen), "0.png: is not a file"),
    "a link to an endless device among images": (image(lambda p: p.symlink_to("/dev/zero")), "0.png: is not a file"),
    "a link to itself among images": (image(lambda p: p.symlink_to(p)), "0.png"),
    "a folder among images": (image(Path.mkdir), "0.png: is a folder, where an image should be"),
    "an image of 400 million pixels": (
        image(lambda p: Image.new("L", (20_000, 20_000)).save(p)),
        "0.png: has 20000x20000 pixels, more than 50,000,000",
    ),
    "PostScript among images": (image(postscript), "0.png: cannot be read as an image"),
    "a drawing that includes /etc/passwd": (
        image(lambda p: p.write_text(ENTITIES)),
        "0.png: cannot be read as an image",
    ),
    "a tar with a member above its folder": (archive("a.tar", member("../hacked", size=1)), "a.tar"),
    "a tar that writes through a link": (archive("a.tar", through_a_link), "a.tar"),
    "a tar with a device": (archive("a.tar", member("images/train/ant/x", type=tarfile.CHRTYPE)), "a.tar"),
    "a tar with a FIFO": (archive("a.tar", member("images/train/ant/x", type=tarfile.FIFOTYPE)), "a.tar"),
    "a tar with a link to /etc/passwd": (
        archive("a.tar", member("images/train/ant/x", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
        "a.tar",
    ),
    "a zip with a link to /etc/passwd": (archive("a.zip", link_in_a_zip), "a.zip: images/train/ant/out.png"),
    "CIFAR-10's files with pickles in them": (
        batches_of_cifar_with_a_pickle,
        "holds neither train/ and test/ nor a complete CIFAR10",
    ),
    "a place of data with a command in it": (place_of_data_with_a_command, "no such file or folder"),
}


HARMLESS: dict[str, Attack] = {
    "a checkpoint that is a pickle": checkpoint_that_is_a_pickle,
    "a checkpoint with a pickle in it": checkpoint_with_a_pickle_in_it,
    "a journal of 100,000 brackets": journal_of_deep_brackets,
    "a tar with an absolute name": archive("a.tar", member("/hacked.txt", size=1)),
    "a zip with a member above its folder": archive("a.zip", lambda file: file.writestr("../hacked", "")),
}
