"""What a preset may say: frozen models that refuse unknown keys. Imports no torch, so that planning is quick."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_origin

from pydantic import Field

from fspkd.config.data import Data, Pretrained
from fspkd.config.results import ClaimsFile, Figure, Table, Timing
from fspkd.config.training import OptimizerSettings, Schedule, Stop, Training
from fspkd.distill import METHODS
from fspkd.networks import AnyNetwork
from fspkd.settings import Few, Identifier, NetReference, NotEmptyMapping, PositiveInt, Settings, matching

if TYPE_CHECKING:
    from fspkd.distill.method import Method  # a union that is only known at run time
else:
    Method = Annotated[Union[METHODS], Field(discriminator="method")]  # noqa: UP007 (a union of a tuple)
Start = Annotated[
    str,
    *matching(
        r"scratch|[a-z0-9_]+(/[1-9][0-9]*)?", "scratch, row/number such as teacher/1, or the name of pretrained weights"
    ),
]
ResultsFolder = Annotated[
    str,
    *matching(
        r"results(?!/(runs|logs)(/|$))(/[a-z0-9_-]+)*",
        "results, or a folder in it other than runs and logs, such as results/mine",
    ),
]
RESULTS = ("tables", "figures", "timings", "alternatives")  # the keys of a preset that hold what it makes, by name
SET_BY_LOADER = ("name", "left_out")  # the keys of a preset that its file does not have


class Row(Settings):
    """Nets trained with the same settings."""

    data: Identifier
    """an entry of `data`"""
    network: Identifier
    """an entry of `networks`"""
    nets: Few
    """how many"""
    start: Start = "scratch"
    """what all of them start from: scratch, a net as row/number, or an entry of `pretrained`. If that was trained on
    other data, the linear layer starts from scratch: transfer learning"""
    stage1: Method | None = None
    """the first stage, if there is one"""
    stage1_shared: bool = True
    """whether all nets of the row share one stage 1, or have one each"""
    stage1_of: Identifier | None = None
    """the row whose shared stage 1 these nets use too"""
    stage2: Method
    """the last stage"""
    optimizer: OptimizerSettings | None = None
    """what updates the weights of these nets, instead of `training.optimizer`"""
    stop: Stop | None = None
    """what ends the stages of these nets, instead of `training.stop`"""


PartOfRow = Annotated[
    dict[str, Any], *NotEmptyMapping, Field(json_schema_extra={"part_of": "Row"})
]  # schema.py reads it


class Alternatives(Settings):
    """A row compared with changed copies of it: a row for each change, called row_change, and a table of them all.

    The table's intervals are for other nets, as with `intervals: nets`, or for other replicates if there are any.
    """

    title: str
    """the text above the table"""
    row: Identifier
    """the row that is varied, and the table's first line"""
    changes: Annotated[dict[Identifier, PartOfRow], *NotEmptyMapping]
    """the changes, by name: each is merged into the row like a file into the one that it extends; what holds for all rows,
    such as `training`, needs a preset for each alternative"""
    beside: dict[str, NetReference] = Field(default={})
    """other rows, or single nets of them, that the table shows below, by label"""


class Preset(Settings):
    """Everything that decides what is computed; where it runs is up to profiles.

    references.py checks that its entries refer to others that exist.
    """

    name: str
    """its name: its folder of results, with - for /"""
    about: str = ""
    """what the results are worth, for their readers"""
    demonstration: bool = False
    """whether it only shows that everything runs and says nothing about the paper: verdicts then have no colours"""
    results: ResultsFolder
    """the folder that tables and figures are written to"""
    seed: Annotated[int, Field(ge=0)]
    """all random numbers follow from it"""
    replicates: Few = 1
    """how often every row is trained, teachers included"""
    divide_schedules: dict[Identifier, PositiveInt] = Field(default_factory=dict)
    """for an entry of `data`, the number that all iterations of rows on it are divided by"""
    data: dict[Identifier, Data]
    """data sets"""
    networks: dict[Identifier, AnyNetwork]
    """networks"""
    pretrained: dict[Identifier, Pretrained] = Field(default_factory=dict)
    """weights from elsewhere"""
    schedules: dict[Identifier, Schedule]
    """learning rates over the iterations of a stage"""
    training: Training
    """what every stage shares"""
    without_bfloat16: Literal["refuse"] | None = None
    """`refuse`: nets that ask for bfloat16 are not trained on devices that emulate it; by default they are, in float32"""
    rows: dict[Identifier, Row]
    """nets trained with the same settings"""
    shows: Annotated[tuple[Identifier, ...], Field(strict=False)] | None = None
    """which results of the extended preset to keep, besides those that this file gives: names of tables, figures, timings
    and alternatives, and `claims`; by default all"""
    tables: dict[Identifier, Table]
    """what `snakemake <results>/<name>.csv` makes"""
    figures: dict[Identifier, Figure] = Field(default_factory=dict)
    """what `snakemake <results>/<name>.png` makes"""
    timings: dict[Identifier, Timing] = Field(default_factory=dict)
    """time comparisons, measured on your machine"""
    alternatives: dict[Identifier, Alternatives] = Field(default_factory=dict)
    """comparisons of settings, each a table of that name"""
    claims: ClaimsFile | None = None
    """the file of claims that are judged"""
    left_out: tuple[str, ...] = ()
    """the entries that are null, such as tables.table2"""


# The keys of a preset that hold entries by name.
SECTIONS = tuple(key for key, field in Preset.model_fields.items() if get_origin(field.annotation) is dict)
