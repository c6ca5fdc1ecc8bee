"""What a preset may say: frozen models that refuse unknown keys.

Imports no torch, so that planning a workflow is quick.
"""

from typing import Annotated, Literal, Union

from pydantic import AfterValidator, Field, model_validator

from fspkd.distill import METHODS
from fspkd.networks import Network
from fspkd.settings import (
    Identifier,
    PositiveInt,
    PositiveReal,
    Real,
    Settings,
    matching,
    not_empty,
    rising,
    suggest,
)

Nets = Annotated[str, matching(r"[a-z0-9_]+(/[1-9][0-9]*)?", "a row, or one net of it, such as teacher or teacher/1")]
Start = Annotated[
    str,
    matching(
        r"scratch|[a-z0-9_]+(/[1-9][0-9]*)?", "scratch, row/number such as teacher/1, or the name of pretrained weights"
    ),
]
ResultsFolder = Annotated[str, matching(r"results(/[a-z0-9_-]+)?", "results or a folder in it, such as results/mine")]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "64 hexadecimal digits")]
Sha256Start = Annotated[str, matching(r"[0-9a-f]{8,64}", "8 to 64 hexadecimal digits")]


# --- data -------------------------------------------------------------------------------------------------


class Augment(Settings):
    """Training-time augmentation: zero padding on each side, in pixels, with a random crop; random flips.

    `crop`: the size of the crops, else that of the images; then test images are cropped too, in the middle.
    """

    pad: Annotated[int, Field(ge=0)] = 0
    crop: PositiveInt | None = None
    flip: bool = False


class DataSettings(Settings):
    """A data set. `sha256`, where given, pins its content: any source of the same images is the same data set."""

    name: Identifier
    sha256: Sha256 | None = None
    size: PositiveInt | None = Field(None, description="resize every image to size x size pixels")
    augment: Augment = Augment()


class Digits(DataSettings):
    """scikit-learn's bundled handwritten digits, or those of some classes: 8x8 grey images, needs no network."""

    source: Literal["digits"]
    classes: Annotated[
        tuple[Annotated[int, Field(ge=0, le=9)], ...],
        Field(strict=False),
        AfterValidator(not_empty),
        AfterValidator(rising),
    ] = tuple(range(10))


class Torchvision(DataSettings):
    """A data set that torchvision downloads and checks."""

    source: Literal["torchvision"]
    dataset: Literal["CIFAR10", "CIFAR100", "SVHN", "MNIST"]


class ImageFolder(DataSettings):
    """A folder {train,test}/<class>/*, or a tar or zip of one."""

    source: Literal["imagefolder"]
    path: str


class Cub200(DataSettings):
    """CUB-200-2011, downloaded and checked, or in its own layout on disk.

    The shorter side of every image is resized to `size`, and a square of that size is kept from the middle.
    """

    source: Literal["cub200"]
    size: PositiveInt


Data = Annotated[Digits | Torchvision | ImageFolder | Cub200, Field(discriminator="source")]


# --- networks and schedules -------------------------------------------------------------------------------


class Pretrained(Settings):
    """Weights that were trained elsewhere, for nets to start from: a name of torchvision's, which downloads them.

    `sha256`: the beginning of the file's checksum. The linear layer of what starts from them is its own.
    """

    weights: str
    network: Identifier
    sha256: Sha256Start


class Phase(Settings):
    """A learning rate, used until (and not at) an iteration counted from the start of the stage."""

    until: PositiveInt
    rate: PositiveReal


class Optimizer(Settings):
    """What every stage shares. `decay_batchnorm`: weight decay reaches batch norm's scales and shifts.

    `precision`: of convolutions and activations; losses, FSP matrices, weights and their updates are float32 always.
    """

    batch_size: PositiveInt
    momentum: Annotated[Real, Field(ge=0, lt=1)]
    weight_decay: Annotated[Real, Field(ge=0)]
    decay_batchnorm: bool
    precision: Literal["float32", "bfloat16"] = "float32"
    evaluate_every: PositiveInt = Field(description="iterations between measurements of the test accuracy")


# --- rows, tables, figures --------------------------------------------------------------------------------

Method = Annotated[Union[METHODS], Field(discriminator="method")]  # noqa: UP007 (a union of a tuple)


class Row(Settings):
    """Nets trained alike.

    `start`: scratch, or the net, or the pretrained weights, that all of them start from. Where that was trained on
    other data the linear layer starts from scratch: transfer learning.
    """

    data: Identifier
    network: Identifier
    nets: PositiveInt
    start: Start = "scratch"
    stage1: Method | None = None
    stage1_shared: bool = Field(True, description="one stage 1 for all nets of the row, or one each")
    stage1_of: Identifier | None = Field(None, description="the row whose shared stage 1 serves these nets too")
    stage2: Method


class Table(Settings):
    """Rows, or a net of one, by the label that the paper prints.

    `reference`: the published numbers, beside this preset, if there are.
    """

    title: str
    reference: str | None = None
    rows: Annotated[dict[str, Nets], AfterValidator(not_empty)]


class Figure(Settings):
    """Training loss and test accuracy over the iterations of stage 2: a curve a row, its nets the band around it."""

    title: str
    curves: Annotated[dict[str, Nets], AfterValidator(not_empty)]


class Timing(Settings):
    """The time comparison of the FSP paper, between rows: plain training, a shared stage 1, and a stage 1 for each net."""

    reference: str
    teachers: Identifier
    students: Identifier
    shuffled_students: Identifier

    @property
    def rows(self) -> tuple[str, str, str]:
        return self.teachers, self.students, self.shuffled_students


class Preset(Settings):
    """Everything that decides what is computed; where it runs is the business of profiles.

    `about`: what the results are worth, for those who read them. `replicates`: how often every row is trained, teachers
    and all. `divide_schedules`: by the name of the data, what all iterations of rows on it are divided by. `claims`:
    whether what config/claims.yaml lists is judged.
    """

    name: Identifier
    about: str = ""
    results: ResultsFolder
    seed: Annotated[int, Field(ge=0)]
    replicates: PositiveInt = 1
    divide_schedules: dict[Identifier, PositiveInt] = Field(default_factory=dict)
    data: dict[Identifier, Data]
    networks: dict[Identifier, Network]
    pretrained: dict[Identifier, Pretrained] = Field(default_factory=dict)
    schedules: dict[Identifier, Annotated[tuple[Phase, ...], Field(strict=False), AfterValidator(not_empty)]]
    training: Optimizer
    rows: dict[Identifier, Row]
    tables: dict[Identifier, Table]
    figures: dict[Identifier, Figure] = Field(default_factory=dict)
    timings: dict[Identifier, Timing] = Field(default_factory=dict)
    claims: bool = False

    @model_validator(mode="after")
    def _check_references(self) -> "Preset":
        problems = []

        def known(kind: str, name: str, where: str) -> None:
            names = getattr(self, kind)
            if name not in names:
                problems.append(f"{where} = {name!r}: no such entry in {kind}{suggest(name, names)}")

        def nets(reference: str, where: str) -> None:
            row, _, number = reference.partition("/")
            known("rows", row, where)
            if row in self.rows and int(number or 1) > self.rows[row].nets:
                problems.append(f"{where} = {reference!r}: row {row!r} has only {self.rows[row].nets} nets")

        for name, phases in self.schedules.items():
            untils = [phase.until for phase in phases]
            if untils != sorted(set(untils)):
                problems.append(f"schedules.{name}: goes backwards: 'until' must rise, and is {untils}")
        for name in self.divide_schedules:
            known("data", name, f"divide_schedules.{name}")
        for name, pretrained in self.pretrained.items():
            known("networks", pretrained.network, f"pretrained.{name}.network")
        for name, row in self.rows.items():
            known("data", row.data, f"rows.{name}.data")
            known("networks", row.network, f"rows.{name}.network")
            if "/" in row.start:
                nets(row.start, f"rows.{name}.start")
            elif row.start in self.rows and row.start not in ("scratch", *self.pretrained):
                problems.append(
                    f"rows.{name}.start = {row.start!r}: must be one net of that row, such as {row.start}/1"
                )
            elif row.start != "scratch":
                known("pretrained", row.start, f"rows.{name}.start")
            if row.stage1_of:
                known("rows", row.stage1_of, f"rows.{name}.stage1_of")
                lender = self.rows.get(row.stage1_of)
                if lender and not (lender.stage1 and lender.stage1_shared):
                    problems.append(
                        f"rows.{name}.stage1_of = {row.stage1_of!r}: that row has no shared stage 1 of its own"
                    )
                if row.stage1 or row.start != "scratch":
                    problems.append(f"rows.{name}: stage1_of stands alone: remove stage1 and start")
            for stage in ("stage1", "stage2"):
                if method := getattr(row, stage):
                    where = f"rows.{name}.{stage}.schedule"
                    known("schedules", method.schedule, where)
                    untils = [phase.until for phase in self.schedules.get(method.schedule, ())]
                    by = self.divide_schedules.get(row.data, 1)
                    if any(until % by for until in untils):
                        problems.append(f"{where}: {untils} do not divide by divide_schedules.{row.data} = {by}")
                    if teacher := getattr(method, "teacher", None):
                        nets(teacher, f"rows.{name}.{stage}.teacher")
            if not row.stage2.trains_classifier:
                problems.append(f"rows.{name}.stage2.method = {row.stage2.method!r}: does not train the classifier")
        for name, table in self.tables.items():
            for label, row in table.rows.items():
                nets(row, f"tables.{name}.rows.{label}")
        files = [(f"tables.{name}", name) for name in self.tables]
        files += [(f"figures.{name}", stem) for name in self.figures for stem in (name, f"{name}_flat")]
        files += [(f"timings.{name}", name) for name in self.timings]
        taken = {"claims": "the claims'", "summary": "the summary's"}
        for where, stem in files:
            if stem in taken:
                problems.append(f"{where}: its file would be {taken[stem]} too. Give it another name")
            taken[stem] = f"that of {where}"
        for name, timing in self.timings.items():
            for role, row_name in zip(("teachers", "students", "shuffled_students"), timing.rows, strict=True):
                where = f"timings.{name}.{role}"
                known("rows", row_name, where)
                if row_name not in self.rows:
                    continue
                row = self.rows[row_name]
                stage1 = row.stage1.method if row.stage1 else "no"
                if stage1 != ("no" if role == "teachers" else "fsp"):
                    problems.append(f"{where} = {row_name!r}: that row has {stage1} stage 1 of its own")
                if row.start != "scratch" or row.stage1_of or row.stage2.method != "cross_entropy":
                    problems.append(f"{where} = {row_name!r}: must start from scratch and end with cross_entropy")
                if row.data != self.rows.get(timing.teachers, row).data:
                    problems.append(f"{where} = {row_name!r}: must be on the data of the teachers")
        for name, figure in self.figures.items():
            for label, row in figure.curves.items():
                nets(row, f"figures.{name}.curves.{label}")
        if problems:
            raise ValueError("; ".join(problems))
        return self
