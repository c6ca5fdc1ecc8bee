"""What a preset may say: frozen models that refuse unknown keys.

Imports no torch, so that planning a workflow is quick.
"""

import difflib
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

# YAML 1.1 reads 1e-3 as text; accepting text for numbers with a fraction spares users that trap.
Real = Annotated[float, Field(strict=False, allow_inf_nan=False)]
PositiveReal = Annotated[Real, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]


def matching(pattern: str, description: str) -> AfterValidator:
    """A validator of texts that a pattern matches whole."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {description}, and is {text!r}")
        return text

    return AfterValidator(check)


def _not_empty(values: tuple) -> tuple:
    if not values:
        raise ValueError("must not be empty")
    return values


Identifier = Annotated[
    str, matching(r"[a-z0-9]+(_[a-z0-9]+)*", "lower-case letters and digits, with single underscores between")
]
NetReference = Annotated[str, matching(r"[a-z0-9_]+/[1-9][0-9]*", "row/number, such as teacher/1")]
Start = Annotated[str, matching(r"scratch|[a-z0-9_]+/[1-9][0-9]*", "scratch or row/number, such as teacher/1")]
ResultsFolder = Annotated[str, matching(r"results(/[a-z0-9_-]+)?", "results or a folder in it, such as results/mine")]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "64 hexadecimal digits")]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _suggest(name: str, names: Any) -> str:
    """'; did you mean ...' for a close match among names, else what there is."""
    close = difflib.get_close_matches(str(name), [str(n) for n in names], 1)
    return f"; did you mean {close[0]!r}?" if close else f"; there is: {', '.join(map(str, names)) or 'nothing'}"


# --- data -------------------------------------------------------------------------------------------------


class Augment(Settings):
    """Training-time augmentation: zero padding on each side, in pixels, with a random crop; random flips."""

    pad: Annotated[int, Field(ge=0)] = 0
    flip: bool = False


class DataSettings(Settings):
    """A data set. `sha256`, where given, pins its content: any source of the same images is the same data set."""

    name: Identifier
    sha256: Sha256 | None = None
    size: PositiveInt | None = Field(None, description="resize every image to size x size pixels")
    augment: Augment = Augment()


class Digits(DataSettings):
    """scikit-learn's bundled handwritten digits: 8x8 grey images, needs no network."""

    source: Literal["digits"]


class Torchvision(DataSettings):
    """A data set that torchvision downloads and checks."""

    source: Literal["torchvision"]
    dataset: Literal["CIFAR10", "CIFAR100", "SVHN", "MNIST"]


class ImageFolder(DataSettings):
    """A folder {train,test}/<class>/*, or a tar or zip of one."""

    source: Literal["imagefolder"]
    path: str


Data = Annotated[Digits | Torchvision | ImageFolder, Field(discriminator="source")]


# --- networks and schedules -------------------------------------------------------------------------------


class Network(Settings):
    """A CIFAR residual net of 6n+2 layers; `width` channels in the first section, doubled twice."""

    depth: PositiveInt
    width: PositiveInt

    @field_validator("depth")
    @classmethod
    def _six_n_plus_two(cls, depth: int) -> int:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError("must be 6n+2: 8, 14, 20, 26, 32, ...")
        return depth


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


# --- methods: how a stage trains --------------------------------------------------------------------------


class CrossEntropy(Settings):
    """Ordinary training on the labels."""

    trains_classifier: ClassVar[bool] = True
    method: Literal["cross_entropy"]
    schedule: Identifier


class KnowledgeDistillation(Settings):
    """Cross-entropy plus a weighted cross-entropy to the teacher's softened outputs; the weight falls linearly."""

    trains_classifier: ClassVar[bool] = True
    method: Literal["kd"]
    schedule: Identifier
    teacher: NetReference
    temperature: PositiveReal = 3.0
    weight_start: Annotated[Real, Field(ge=0)] = 4.0
    weight_end: Annotated[Real, Field(ge=0)] = 1.0


class Fsp(Settings):
    """FSP matrices, eq. (2). `layers`: the two layers of a matrix; `shuffle`: how the teacher's channels are permuted."""

    trains_classifier: ClassVar[bool] = False
    method: Literal["fsp"]
    schedule: Identifier
    teacher: NetReference
    layers: Literal["section", "module"] = "section"
    reduction: Literal["mean", "sum"] = "mean"
    weight: PositiveReal = 1.0
    shuffle: Literal["none", "channel", "tied", "independent"] = "none"


class Hint(Settings):
    """FitNet hints at the ends of the named sections, through 1x1 regressors."""

    trains_classifier: ClassVar[bool] = False
    method: Literal["hint"]
    schedule: Identifier
    teacher: NetReference
    sections: Annotated[tuple[Literal[1, 2, 3], ...], Field(strict=False), AfterValidator(_not_empty)]
    reduction: Literal["mean", "sum"] = "sum"

    @field_validator("sections")
    @classmethod
    def _rising(cls, sections: tuple[int, ...]) -> tuple[int, ...]:
        if list(sections) != sorted(set(sections)):
            raise ValueError("must rise, each section once")
        return sections


Method = Annotated[CrossEntropy | KnowledgeDistillation | Fsp | Hint, Field(discriminator="method")]


# --- rows, tables, figures --------------------------------------------------------------------------------


class Row(Settings):
    """Nets trained alike. `start`: scratch, or the net whose weights all of them start from."""

    data: Identifier
    network: Identifier
    nets: PositiveInt
    start: Start = "scratch"
    stage1: Method | None = None
    stage1_shared: bool = Field(True, description="one stage 1 for all nets of the row, or one each")
    stage1_of: Identifier | None = Field(None, description="the row whose shared stage 1 serves these nets too")
    stage2: Method


class Table(Settings):
    """Rows by the label that the paper prints; `reference`: its published numbers, beside this preset."""

    title: str
    reference: str
    rows: dict[str, Identifier]


class Figure(Settings):
    """Training loss and test accuracy over the iterations of stage 2, a curve a net."""

    title: str
    curves: dict[str, NetReference]


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
    """Everything that decides what is computed; where it runs is the business of profiles."""

    name: Identifier
    results: ResultsFolder
    seed: Annotated[int, Field(ge=0)]
    divide_schedules: PositiveInt = 1
    data: dict[Identifier, Data]
    networks: dict[Identifier, Network]
    schedules: dict[Identifier, Annotated[tuple[Phase, ...], Field(strict=False), AfterValidator(_not_empty)]]
    training: Optimizer
    rows: dict[Identifier, Row]
    tables: dict[Identifier, Table]
    figures: dict[Identifier, Figure] = {}
    timings: dict[Identifier, Timing] = {}

    @model_validator(mode="after")
    def _check_references(self) -> "Preset":
        problems = []

        def known(kind: str, name: str, where: str) -> None:
            names = getattr(self, kind)
            if name not in names:
                problems.append(f"{where} = {name!r}: no such entry in {kind}{_suggest(name, names)}")

        def net(reference: str, where: str) -> None:
            row, index = reference.split("/")
            known("rows", row, where)
            if row in self.rows and int(index) > self.rows[row].nets:
                problems.append(f"{where} = {reference!r}: row {row!r} has only {self.rows[row].nets} nets")

        for name, phases in self.schedules.items():
            untils = [phase.until for phase in phases]
            if untils != sorted(set(untils)):
                problems.append(f"schedules.{name}: goes backwards: 'until' must rise, and is {untils}")
            if any(until % self.divide_schedules for until in untils):
                problems.append(
                    f"schedules.{name}: {untils} do not divide by divide_schedules = {self.divide_schedules}"
                )
        for name, row in self.rows.items():
            known("data", row.data, f"rows.{name}.data")
            known("networks", row.network, f"rows.{name}.network")
            if row.start != "scratch":
                net(row.start, f"rows.{name}.start")
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
                    known("schedules", method.schedule, f"rows.{name}.{stage}.schedule")
                    if teacher := getattr(method, "teacher", None):
                        net(teacher, f"rows.{name}.{stage}.teacher")
            if not row.stage2.trains_classifier:
                problems.append(f"rows.{name}.stage2.method = {row.stage2.method!r}: does not train the classifier")
        for name, table in self.tables.items():
            for label, row in table.rows.items():
                known("rows", row, f"tables.{name}.rows.{label}")
        for name, timing in self.timings.items():
            if name in self.tables:
                problems.append(f"timings.{name}: a table has that name too")
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
            for label, reference in figure.curves.items():
                net(reference, f"figures.{name}.curves.{label}")
        if problems:
            raise ValueError("; ".join(problems))
        return self
