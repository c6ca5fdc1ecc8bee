"""What a preset may say about tables, figures and time comparisons, and a paper's claims about them."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from fspkd.settings import (
    Identifier,
    NetReference,
    NotEmptyMapping,
    NotEmptyTuple,
    OneNet,
    PositiveReal,
    Real,
    Settings,
    matching,
)

ClaimsFile = Annotated[str, *matching(r"[a-z0-9_]+(/[a-z0-9_]+)*\.yaml", "a file in config/, such as fsp/claims.yaml")]
PublishedFile = Annotated[
    str,
    *matching(r"[a-z0-9_]+(/[a-z0-9_]+)*\.csv", "a file in config/, such as fsp/reference/table3_cifar10_resnet8.csv"),
]
Measure = Literal["training loss", "test accuracy"]
RowsOfALine = Annotated[tuple[NetReference, ...], *NotEmptyTuple]
NetsByLabel = Annotated[dict[str, NetReference], *NotEmptyMapping]


class Table(Settings):
    """Rows, or single nets of them, by the labels that the paper prints."""

    title: str
    """the text above it"""
    reference: PublishedFile | None = None
    """the published numbers, if any: a line for each label of `rows` in a column `row` (marks may be in a column `mark`),
    and any of the columns accuracy, error, net1, net2, ..., average, ensemble and total_iterations"""
    rows: NetsByLabel
    """the row, or the net as row/number, that each label shows"""
    measure: Literal["error"] | None = None
    """`error`: the percentage of test images that nets get wrong, instead of their accuracy"""
    quoted: Annotated[tuple[str, ...], *NotEmptyTuple] | None = None
    """rows of `reference`, by label, that have only published values and are shown below the others"""
    marks: dict[str, str] | None = None
    """what the marks in its labels, such as *, stand for"""
    intervals: Literal["nets"] | None = None
    """`nets`: averages have a 95 % interval for other nets of their row, from the spread within all rows of the table"""

    @property
    def measured(self) -> Literal["accuracy", "error"]:
        """What its percentages measure."""
        return self.measure or "accuracy"


class Drawing(Settings):
    """A figure of any kind."""

    ends: ClassVar[tuple[str, ...]] = (".csv",)  # suffixes of the files of numbers beside it


class Curves(Drawing):
    """A figure of the training loss and test accuracy over the iterations of a stage, one curve per row."""

    ends: ClassVar[tuple[str, ...]] = (".csv", "_flat.csv")

    kind: Literal["curves"]
    """what the figure shows"""
    title: str
    """the text above it"""
    curves: NetsByLabel
    """the row of each curve; its nets make the band around it"""
    stage: Literal[1] | None = None
    """1: the nets' first stages, only their training loss, since they are not tested; by default stage 2"""

    @property
    def nets(self) -> tuple[str, ...]:
        """The rows, or single nets of them, that it draws."""
        return tuple(self.curves.values())

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What its panels show."""
        return ("training loss",) if self.stage == 1 else get_args(Measure)


class Depth(Drawing):
    """A figure of the final test accuracy over the number of layers, one line per method.

    A point is a row; its network says how deep the nets are.
    """

    kind: Literal["depth"]
    """what the figure shows"""
    title: str
    """the text above it"""
    reference: PublishedFile | None = None
    """the published points, if any, one per line: columns panel, method, layers and accuracy"""
    panels: Annotated[dict[str, Annotated[dict[str, RowsOfALine], *NotEmptyMapping]], *NotEmptyMapping]
    """the panels, side by side, such as one for each budget of multiplications; in each the methods, and for each method the
    rows that its line goes through"""

    @property
    def nets(self) -> tuple[str, ...]:
        """The rows, or single nets of them, that it draws."""
        return tuple(row for methods in self.panels.values() for rows in methods.values() for row in rows)


class Plateau(Drawing):
    """A figure of how long nets guess: the training loss of the last stage, relative to that of a net that gives all classes
    the same probability, one curve per net."""

    kind: Literal["plateau"]
    """what the figure shows"""
    title: str
    """the text above it"""
    curves: NetsByLabel
    """the row of each curve; its last stage trains on the labels or by distillation"""

    @property
    def nets(self) -> tuple[str, ...]:
        """The rows, or single nets of them, that it draws."""
        return tuple(self.curves.values())


class Matrices(Drawing):
    """A figure of the FSP matrices of a student, before and after its first stage, and of its teacher."""

    kind: Literal["matrices"]
    """what the figure shows"""
    title: str
    """the text above it"""
    net: NetReference
    """a net whose first stage learns FSP matrices, as row/number"""

    @property
    def nets(self) -> tuple[str, ...]:
        """The rows, or single nets of them, that it draws."""
        return (self.net,)


Figure = Annotated[Curves | Depth | Plateau | Matrices, Field(discriminator="kind")]


class TrainingTime(Settings):
    """The time comparison of the FSP paper, section 4.1, between rows."""

    kind: Literal["training_time"]
    """what is compared"""
    title: str = "The paper's time comparison"
    """the text above it"""
    note: str | None = None
    """the text below it"""
    reference: PublishedFile
    """the published numbers, one per line: columns what and value, with the same names as in the comparison"""
    teachers: Identifier
    """the row that is trained plainly"""
    students: Identifier
    """the row whose nets share a stage 1"""
    shuffled_students: Identifier
    """the row whose nets have a stage 1 each"""

    @property
    def nets(self) -> tuple[str, ...]:
        """The rows, or single nets as row/number, that it measures."""
        return self.teachers, self.students, self.shuffled_students


class InferenceTime(Settings):
    """What nets achieve and cost compared with their teacher, as in the FitNets paper's Table 5."""

    kind: Literal["inference_time"]
    """what is compared"""
    title: str
    """the text above it"""
    note: str | None = None
    """the text below it"""
    reference: PublishedFile | None = None
    """the published numbers, if any"""
    teacher: OneNet
    """the net of `rows` that the others are compared with"""
    rows: Annotated[dict[str, OneNet], *NotEmptyMapping]
    """the nets, by the label that the paper prints, all on the same data"""

    @property
    def nets(self) -> tuple[str, ...]:
        """The rows, or single nets as row/number, that it measures."""
        return tuple(self.rows.values())

    @property
    def teacher_label(self) -> str:
        """The label of the teacher in `rows`."""
        return next(label for label, net in self.rows.items() if net == self.teacher)


Timing = Annotated[TrainingTime | InferenceTime, Field(discriminator="kind")]


# --- claims -----------------------------------------------------------------------------------------------

SpeedUp = Literal[
    "speed-up of Student* over Teacher, on the fly",
    "speed-up of Student* with saved FSP",
    "speed-up of Student*† with saved FSP",
    "speed-up of Student*† with shared FSP",
]


class BaseClaim(Settings):
    """Something that a paper claims."""

    claim: str
    """what is claimed, in a sentence"""
    where: str
    """where it is claimed, such as section 4.1, table 2 (of your own paper too); or: not in the paper"""


class Comparison(BaseClaim):
    """`more` is above `less`, or about equal to it."""

    more: str
    """what is above: in a table, the label of a row; in a figure, a row that it draws, as row or row/number"""
    less: str
    """what is below, likewise"""
    more_than: Real = 0.0
    """percentage points that `more` minus `less` has to exceed; not together with `within`"""
    within: PositiveReal | None = None
    """percentage points that the difference may be above or below 0, instead of `more_than`: about equal"""

    @model_validator(mode="after")
    def _above_or_about_equal(self) -> "Comparison":
        if self.within is not None and "more_than" in self.model_fields_set:
            raise ValueError("more_than and within: `more` is above `less` or about equal to it. Remove one of the two")
        return self


class RowsClaim(Comparison):
    """In a table, `more` is above `less` by `more_than`, or about equal, `within` a margin. Both are on the same data."""

    compare: Literal["rows"]
    """what is compared"""
    table: Identifier
    """an entry of `tables` or `alternatives`, or one of `timings` of kind inference_time, which shows accuracies too"""
    value: Literal["accuracy", "average", "ensemble", "gain", "error"]
    """what is compared of the rows. accuracy: of rows of one net; average: of a row's nets; ensemble: of all of them together;
    gain: of the ensemble over the average; error: of a net, or on average, only in a table with `measure: error`"""


class PointsClaim(Comparison):
    """In a figure of kind `depth`, the accuracy of `more` is above that of `less` by `more_than`, or about equal to it,
    `within` a margin."""

    compare: Literal["points"]
    """what is compared"""
    figure: Identifier
    """an entry of `figures`"""
    published: Real | None = None
    """the difference that the paper's text gives; without it, that of the published points"""


class LearningClaim(BaseClaim):
    """All of the named points of a figure of kind `depth` learn, or none does.

    A net that is right less than twice as often as by guessing has failed to learn.
    """

    compare: Literal["learning"]
    """what is compared"""
    figure: Identifier
    """an entry of `figures`"""
    nets: Annotated[tuple[NetReference, ...], *NotEmptyTuple]
    """rows that it draws"""
    learn: bool
    """whether all of them learn, or none does"""


class FigureClaim(BaseClaim):
    """In a figure of kind `curves`, one curve enters its flat part more than `more_than` times later than another."""

    compare: Literal["figure"]
    """what is compared"""
    figure: Identifier
    """an entry of `figures`"""
    measure: Measure
    """which of its panels"""
    later: str
    """the label of the curve that becomes flat later"""
    earlier: str
    """the label of the other"""
    published: PositiveReal
    """how many times later it is in the paper; for a claim of your own, what you measured or expect"""
    more_than: PositiveReal
    """what the ratio has to exceed"""


class TimingClaim(BaseClaim):
    """A speed-up of a time comparison of kind `training_time` is the published one, or greater."""

    compare: Literal["timing"]
    """what is compared"""
    timing: Identifier
    """an entry of `timings`, of kind training_time"""
    what: SpeedUp
    """which of its lines"""
    tolerance: Annotated[Real, Field(ge=0, lt=1)]
    """the fraction of the published speed-up that ours may fall short by, to allow for rounding"""


class InferenceTimeClaim(BaseClaim):
    """In a time comparison of kind `inference_time`, a net infers more than `more_than` times faster than another."""

    compare: Literal["inference_time"]
    """what is compared"""
    timing: Identifier
    """an entry of `timings`, of kind inference_time"""
    row: str
    """the label of the faster net"""
    than: str | None = None
    """the label of the other; by default the teacher's"""
    more_than: PositiveReal = 1.0
    """what the ratio has to exceed"""


Claim = Annotated[
    RowsClaim | PointsClaim | LearningClaim | FigureClaim | TimingClaim | InferenceTimeClaim,
    Field(discriminator="compare"),
]


class Claims(Settings):
    """Claims of a paper, to be judged by a preset's results."""

    claims: Annotated[tuple[Claim, ...], *NotEmptyTuple]
    """the claims, in the order in which they are shown"""
