"""Checks that the entries of a preset refer to others that exist; each function yields the problems it finds, as texts."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from fspkd.config.data import WEIGHTS_FILES
from fspkd.config.preset import Preset, Row
from fspkd.config.results import Curves, Depth, InferenceTime, Matrices, Plateau, Table, TrainingTime
from fspkd.config.training import ByValidation, divided, divided_stop
from fspkd.settings import row_of, suggest

GUESSED = ("cross_entropy", "kd")  # methods that compare only outputs, by cross-entropies

OF_TORCHVISION = ("imagenet_resnet", "torchvision")  # architectures for which it has weights


def problems(preset: Preset) -> Iterator[str]:
    """All problems of a preset."""
    yield from _schedules(preset)
    if preset.training.evaluate_every is None:
        yield "training.evaluate_every: must be a number; only first stages are never tested"
    for name, pretrained in preset.pretrained.items():
        if name == "scratch":
            yield "pretrained.scratch: in a row, start: scratch means no pretrained weights. Give this entry another name"
        where = f"pretrained.{name}.network"
        yield from _known(preset, "networks", pretrained.network, where)
        network = preset.networks.get(pretrained.network)
        if network and network.architecture not in OF_TORCHVISION and not pretrained.is_file:
            yield (
                f"{where} = {pretrained.network!r}: is a {network.architecture}, for which torchvision has no weights. Name a "
                f"network of architecture {' or '.join(OF_TORCHVISION)}, or as weights a file that ends in "
                f"{' or '.join(WEIGHTS_FILES)}"
            )
    for name, row in preset.rows.items():
        yield from _known(preset, "data", row.data, f"rows.{name}.data")
        yield from _known(preset, "networks", row.network, f"rows.{name}.network")
        yield from _start(preset, name, row)
        for stage in ("stage1", "stage2"):
            yield from _stage(preset, f"rows.{name}.{stage}", row, stage)
    yield from _stops(preset)
    for name, table in preset.tables.items():
        for label, nets in table.rows.items():
            yield from _nets(preset, nets, f"tables.{name}.rows.{label}")
        if table.intervals:
            yield from _intervals(preset, f"tables.{name}", table)
        yield from _quoted(f"tables.{name}.quoted", table)
        for mark in table.marks or ():
            if not any(mark in label for label in (*table.rows, *(table.quoted or ()))):
                yield f"tables.{name}.marks: no label of the table has {mark!r}. Remove it"
    for name, figure in preset.figures.items():
        checks: dict[type, Callable[..., Iterator[str]]] = {
            Curves: _curves,
            Depth: _panels,
            Plateau: _plateau,
            Matrices: _matrices,
        }
        yield from checks[type(figure)](preset, name, figure)
    yield from _files(preset)
    for name, timing in preset.timings.items():
        if isinstance(timing, InferenceTime):
            yield from _inference_time(preset, f"timings.{name}", timing)
        else:
            yield from _training_time(preset, f"timings.{name}", timing)


def _known(preset: Preset, section: str, name: str, where: str) -> Iterator[str]:
    names = getattr(preset, section)
    if name not in names:
        yield f"{where} = {name!r}: no such entry in {section}{suggest(name, names)}"


def _nets(preset: Preset, reference: str, where: str) -> Iterator[str]:
    row, _, number = reference.partition("/")
    if row in preset.pretrained and row not in preset.rows:
        yield (
            f"{where} = {reference!r}: {row} is an entry of pretrained, not of rows; it has no numbered nets. The log of a net "
            f"that learns from it has its accuracy"
        )
        return
    yield from _known(preset, "rows", row, where)
    if row in preset.rows and int(number or 1) > preset.rows[row].nets:
        yield f"{where} = {reference!r}: row {row!r} has only {preset.rows[row].nets} nets"


def _increase(untils: list[int]) -> bool:
    return all(begin < end for begin, end in pairwise([0, *untils]))


def _schedules(preset: Preset) -> Iterator[str]:
    for name, pieces in preset.schedules.items():
        untils = [piece.until for piece in pieces]
        if not _increase(untils):
            yield f"schedules.{name}: 'until' must increase, and is {untils}"
        if any(piece.along and piece.to is None for piece in pieces):
            yield f"schedules.{name}: 'along' says how the rate changes to another: give that one as 'to'"
    for name in preset.divide_schedules:
        yield from _known(preset, "data", name, f"divide_schedules.{name}")


def _start(preset: Preset, name: str, row: Row) -> Iterator[str]:
    where = f"rows.{name}.start"
    if "/" in row.start:
        yield from _nets(preset, row.start, where)
    elif row.start in preset.rows and row.start not in ("scratch", *preset.pretrained):
        yield f"{where} = {row.start!r}: must be one net of that row, such as {row.start}/1"
    elif row.start != "scratch":
        yield from _known(preset, "pretrained", row.start, where)
    if row.stage1_of:
        where = f"rows.{name}.stage1_of"
        yield from _known(preset, "rows", row.stage1_of, where)
        lender = preset.rows.get(row.stage1_of)
        if lender and not (lender.stage1 and lender.stage1_shared):
            yield f"{where} = {row.stage1_of!r}: that row has no shared stage 1 of its own"
        if row.stage1 or row.start != "scratch":
            yield f"rows.{name}: stage1_of excludes stage1 and start: remove these"


def _stage(preset: Preset, where: str, row: Row, stage: str) -> Iterator[str]:
    method = getattr(row, stage)
    if method is None:
        return
    yield from _known(preset, "schedules", method.schedule, f"{where}.schedule")
    pieces = preset.schedules.get(method.schedule, ())
    by = preset.divide_schedules.get(row.data, 1)
    untils, shortened = ([piece.until for piece in some] for some in (pieces, divided(pieces, by)))
    if _increase(untils) and not _increase(shortened):
        yield (
            f"{where}.schedule: divide_schedules.{row.data} = {by} turns its iterations {untils} into {shortened}. "
            f"Divide by less"
        )
    optimizer = row.optimizer or preset.training.optimizer
    if not optimizer.follows_momentum and any(p.momentum is not None or p.momentum_to is not None for p in pieces):
        yield (
            f"{where}.schedule = {method.schedule!r}: sets a momentum, which {optimizer.algorithm} does not take from a "
            f"schedule. Give the row optimizer: {{algorithm: heavy_ball, momentum: ...}}"
        )
    if teacher := getattr(method, "teacher", None):
        yield from _teacher(preset, teacher, f"{where}.teacher", row, stage)
    network = preset.networks.get(row.network)
    if stage == "stage2" and network and "logits" not in (taps := method.student_taps(network)):
        yield (
            f"{where}.method = {method.method!r}: does not train the classifier, since its loss reads {', '.join(taps)} alone. "
            f"Use it in stage1, or one that reads logits"
        )
    try:
        hash(method)
    except TypeError:
        yield (
            f"{where}.method = {method.method!r}: a setting of it is a list or mapping that could be changed. Declare it in "
            f"{type(method).__module__}, for a list of names for example as Annotated[tuple[str, ...], *NotEmptyTuple]"
        )


def _stops(preset: Preset) -> Iterator[str]:
    """Stops by validation of rows without validation images, or with less patience than there is between measurements."""
    without: dict[tuple[str, str], list[str]] = {}
    impatient: dict[str, str] = {}
    for name, row in preset.rows.items():
        stop, where = row.stop or preset.training.stop, f"rows.{name}.stop" if row.stop else "training.stop"
        if not isinstance(stop, ByValidation) or row.data not in preset.data:
            continue
        if row.stage1 and getattr(row.stage1, "teacher", None) and not row.stage1.targets_are_of_images:
            yield (
                f"rows.{name}.stage1.method = {row.stage1.method!r}: compares the images of a batch with each other, and those "
                f"for validation come sorted by class. Give the row stop: {{by: schedule}}; or, if its targets for an image "
                f"do not depend on the others, set targets_are_of_images = True in {type(row.stage1).__module__}"
            )
        if preset.data[row.data].validation is None:
            without.setdefault((where, row.data), []).append(name)
        by = preset.divide_schedules.get(row.data, 1)
        shortened = divided_stop(stop, by, preset.training.evaluate_every)
        if shortened and shortened.patience < (shortened.every or 0):
            impatient[where] = (
                f"{where}.patience = {stop.patience}: ends a stage before its second measurement on the validation images: "
                f"these come every {shortened.every} iterations, with a patience of {shortened.patience}. Give a "
                f"smaller 'every'"
            )
    for (where, data), rows in without.items():
        yield (
            f"{where}: by validation, but data set {data!r} of {', '.join(rows)} sets no images aside for that. Set "
            f"data.{data}.validation, such as 10000, or give these rows stop: {{by: schedule}}"
        )
    yield from impatient.values()


def _teacher(preset: Preset, reference: str, where: str, row: Row, stage: str) -> Iterator[str]:
    if reference in preset.pretrained:
        if reference in preset.rows:
            yield f"{where} = {reference!r}: is both a row and an entry of pretrained. Rename one of the two"
        return
    if "/" not in reference and reference not in preset.rows and preset.pretrained:
        names = [*preset.rows, *preset.pretrained]
        yield f"{where} = {reference!r}: no such entry in rows or pretrained{suggest(reference, names)}"
        return
    yield from _nets(preset, reference, where)
    if "/" in reference or reference not in preset.rows:
        return
    if stage == "stage1" and row.stage1_shared:
        yield (
            f"{where} = {reference!r}: a row gives each net its own teacher, but all nets here share one stage 1. Name "
            f"one net, such as {reference}/1, or set stage1_shared: false"
        )
    elif (teachers := preset.rows[reference].nets) < row.nets:
        yield (
            f"{where} = {reference!r}: each of {row.nets} nets learns from the teacher with its number, but there are only "
            f"{teachers}"
        )


def _intervals(preset: Preset, where: str, table: Table) -> Iterator[str]:
    if preset.replicates > 1:
        yield (
            f"{where}.intervals = 'nets': with replicates = {preset.replicates}, intervals are over replicates. Remove one of "
            f"the two"
        )
    several = {nets: row for nets in table.rows.values() if (row := preset.rows.get(nets)) and row.nets > 1}
    if shared := [name for name, row in several.items() if row.stage1_of or (row.stage1 and row.stage1_shared)]:
        yield (
            f"{where}: intervals over nets need nets that are independent of each other, but those of {', '.join(shared)} "
            f"share a stage 1. Set stage1_shared: false there"
        )
    if not several:
        yield f"{where}: intervals over nets come from the spread within rows, but no row has two nets. Give one nets: 2"


def _curves(preset: Preset, name: str, figure: Curves) -> Iterator[str]:
    for label, nets in figure.curves.items():
        where = f"figures.{name}.curves.{label}"
        yield from _nets(preset, nets, where)
        row = preset.rows.get(row_of(nets))
        if figure.stage == 1 and row and not (row.stage1 or row.stage1_of):
            yield f"{where} = {nets!r}: that row has no stage 1, but the figure shows first stages"


def _plateau(preset: Preset, name: str, figure: Plateau) -> Iterator[str]:
    for label, nets in figure.curves.items():
        where = f"figures.{name}.curves.{label}"
        yield from _nets(preset, nets, where)
        row = preset.rows.get(row_of(nets))
        if row and row.stage2.method not in GUESSED:
            yield (
                f"{where} = {nets!r}: that row ends with {row.stage2.method}, for which the loss of guessing is not known. "
                f"Name rows that end with {' or '.join(GUESSED)}"
            )


def _matrices(preset: Preset, name: str, figure: Matrices) -> Iterator[str]:
    where = f"figures.{name}.net"
    yield from _nets(preset, figure.net, where)
    row = preset.rows.get(row_of(figure.net))
    first = preset.rows[row.stage1_of].stage1 if row and row.stage1_of in preset.rows else row and row.stage1
    if row and not (first and first.method == "fsp" and "/" in figure.net):
        yield f"{where} = {figure.net!r}: must be one net of a row whose first stage learns FSP matrices, such as student/1"


def _panels(preset: Preset, name: str, figure: Depth) -> Iterator[str]:
    where = f"figures.{name}.panels"
    if twice := [nets for nets, times in Counter(figure.nets).items() if times > 1]:
        yield f"{where}: names {', '.join(twice)} more than once. Give each point a row of its own"
    rows = [preset.rows.get(row_of(nets)) for nets in figure.nets]
    if len(data := dict.fromkeys(row.data for row in rows if row)) > 1:
        yield f"{where}: has rows on {', '.join(data)}, but only those on one data set can be compared. Name such rows"
    for panel, methods in figure.panels.items():
        for method, line in methods.items():
            yield from _line(preset, line, f"{where}.{panel}.{method}")


def _line(preset: Preset, line: tuple[str, ...], where: str) -> Iterator[str]:
    by_layers: dict[int, str] = {}
    for nets in line:
        yield from _nets(preset, nets, where)
        row = preset.rows.get(row_of(nets))
        if row and row.network in preset.networks:
            layers = preset.networks[row.network].layer_count
            if (other := by_layers.setdefault(layers, nets)) != nets:
                yield f"{where}: {other} and {nets} both have {layers} layers. Name one row for each number of layers"


def _quoted(where: str, table: Table) -> Iterator[str]:
    if not table.quoted:
        return
    if not table.reference:
        yield f"{where}: these rows come from the file of published numbers. Name it as reference, or remove quoted"
    for number, label in enumerate(table.quoted):
        if label in table.rows or label in table.quoted[:number]:
            yield f"{where}: {label!r}: the table has that row already. Remove it from quoted"


def _files(preset: Preset) -> Iterator[str]:
    """Results that would be written to the same file."""
    files = [(f"tables.{name}", name) for name in preset.tables]
    for name, figure in preset.figures.items():
        files += [(f"figures.{name}", f"{name}{end.removesuffix('.csv')}") for end in figure.ends]
    files += [(f"timings.{name}", name) for name in preset.timings]
    taken = {"claims": "the claims'", "summary": "the summary's", "nets": "the list of exported nets'"}
    for where, stem in files:
        if stem in taken:
            yield f"{where}: its file would have the same name as {taken[stem]}. Give it another name"
        taken[stem] = f"that of {where}"


def _inference_time(preset: Preset, where: str, timing: InferenceTime) -> Iterator[str]:
    if timing.teacher not in timing.nets:
        yield f"{where}.teacher = {timing.teacher!r}: is not one of its rows. Name one of {', '.join(timing.nets)}"
    teacher = preset.rows.get(row_of(timing.teacher))
    for label, net in timing.rows.items():
        yield from _nets(preset, net, f"{where}.rows.{label}")
        row = preset.rows.get(row_of(net))
        if row and teacher and row.data != teacher.data:
            yield f"{where}.rows.{label} = {net!r}: must be on the data of the teacher, {teacher.data!r}"


def _training_time(preset: Preset, name: str, timing: TrainingTime) -> Iterator[str]:
    for role, row_name in zip(("teachers", "students", "shuffled_students"), timing.nets, strict=True):
        where = f"{name}.{role}"
        yield from _known(preset, "rows", row_name, where)
        if row_name not in preset.rows:
            continue
        row = preset.rows[row_name]
        wanted = None if role == "teachers" else "fsp"
        if wanted != (row.stage1.method if row.stage1 else None):
            yield f"{where} = {row_name!r}: must be a row {'with a stage1 of method: fsp' if wanted else 'without stage1'}"
        if row.stage1 and getattr(row.stage1, "teacher", None) in preset.rows:
            yield f"{where} = {row_name!r}: its nets must share one teacher, and have one each"
        if row.start != "scratch" or row.stage1_of or row.stage2.method != "cross_entropy":
            yield f"{where} = {row_name!r}: must start from scratch and end with cross_entropy"
        if row.data != preset.rows.get(timing.teachers, row).data:
            yield f"{where} = {row_name!r}: must be on the data of the teachers"
