"""Mistakes in the tiny preset, and the error message for each."""

from typing import NamedTuple


def alternatives(changes: dict[str, object], row: str = "teacher", **beside: str) -> dict[str, object]:
    """Alternatives of a row, as in a preset."""
    return {"title": "T", "row": row, "changes": changes, "beside": beside}


def depth(panels: dict[str, object]) -> dict[str, object]:
    """A figure of accuracy over depth, as in a preset."""
    return {"kind": "depth", "title": "T", "panels": panels}


def maxout(*layers: dict[str, object], **others: object) -> dict[str, object]:
    """A maxout network, as in a preset."""
    return {"architecture": "maxout", "layers": list(layers), **others}


def hint(**settings: object) -> dict[str, object]:
    """The first stage of row fitnet with other layers."""
    return {"method": "hint", "teacher": "teacher/1", "schedule": "first", **settings}


LONGER = {"longer": {"stage2": {"schedule": "long"}}}


class Mistake(NamedTuple):
    """A key that is set to a wrong value, or removed with ..., and a pattern for the message.

    The schema reports what a single value shows; it compares neither entries nor numbers with each other.
    """

    key: str
    value: object
    message: str
    told_by_schema: bool = True


MISTAKES = [
    Mistake("rows.student.stage1.lamda", 1.0, r"tiny.yaml: rows.student.stage1.lamda = 1.0: unknown key"),
    Mistake("rows.student.colour", "red", r"tiny.yaml: rows.student.colour = 'red': unknown key"),
    Mistake(
        "training.batch_size", "many", r"tiny.yaml: training.batch_size = 'many': must be a whole number, such as 10000"
    ),
    Mistake("training.batch_size", True, r"training.batch_size = True"),
    Mistake("training.optimizer.momentum", 1.0, r"training.optimizer.momentum = 1.0: input should be less than 1"),
    Mistake("training.optimizer.weight_decay", ..., r"tiny.yaml: training.optimizer.weight_decay: missing"),
    Mistake("training.optimizer", {"algorithm": "adam"}, r"training.optimizer.algorithm = 'adam': must be one of"),
    Mistake("rows.student.optimizer", {"algorithm": "rmsprop", "floor": 0}, r"rows.student.optimizer.floor = 0: input"),
    Mistake(
        "schedules.short",
        [{"until": 8, "rate": 0.1, "momentum": 0.5}],
        r"stage2.schedule = 'short': sets a momentum, which sgd does not take from a schedule",
        told_by_schema=False,
    ),
    Mistake(
        "schedules.short",
        [{"until": 8, "rate": 0.1, "along": "line"}],
        r"schedules.short: 'along' says how the rate changes to another: give that one as 'to'",
        told_by_schema=False,
    ),
    Mistake(
        "schedules.short",
        [{"until": 8, "rate": 0.1, "to": 0, "along": "exponential"}],
        r"schedules.short.0: to = 0 is never reached by a constant factor. Give a number above 0, or another `along`",
        told_by_schema=False,
    ),
    Mistake(
        "training.optimizer",
        {"algorithm": "sgd", "momentum": 0, "weight_decay": 0, "decay_batchnorm": True, "nesterov": True},
        r"training.optimizer: nesterov = true and momentum = 0. Give a momentum above 0",
        told_by_schema=False,
    ),
    Mistake("rows.student.stage1.teacher", ..., r"rows.student.stage1.teacher: missing"),
    Mistake(
        "rows.student.stage1.teacher",
        "teecher/1",
        r"'teecher': no such entry in rows; did you mean 'teacher'\?",
        told_by_schema=False,
    ),
    Mistake("rows.student.stage1.teacher", "teacher/3", r"row 'teacher' has only 2 nets", told_by_schema=False),
    Mistake(
        "rows.student.stage1.teacher",
        "teacher",
        r"rows.student.stage1.teacher = 'teacher': a row gives each net its own teacher.* or set stage1_shared: false",
        told_by_schema=False,
    ),
    Mistake(
        "rows.student.stage2",
        {"method": "kd", "teacher": "fitnet", "schedule": "short"},
        r"rows.student.stage2.teacher = 'fitnet': each of 2 nets learns from the teacher with its number, but there are only 1",
        told_by_schema=False,
    ),
    Mistake(
        "rows.student.stage1.teacher", "teacher/0", r"rows.student.stage1.teacher: must be a row, or one net of it"
    ),
    Mistake(
        "rows.student.stage2.schedule",
        "shrot",
        r"rows.student.stage2.schedule = 'shrot'.*did you mean 'short'\?",
        told_by_schema=False,
    ),
    Mistake("rows.student.stage2.method", "fsp", r"rows.student.stage2.teacher: missing"),
    Mistake(
        "rows.fitnet.stage2",
        {"method": "fsp", "teacher": "teacher/1", "schedule": "short"},
        r"rows.fitnet.stage2.method = 'fsp': does not train the classifier, since its loss reads stem, section1, .* alone",
        told_by_schema=False,
    ),
    Mistake("schedules.short", [], r"schedules.short = \[\]: must not be empty"),
    Mistake(
        "rows.student.stage1.method", "fps", r"tiny.yaml: rows.student.stage1.method = 'fps': must be one of .*'fsp'"
    ),
    Mistake("rows.student.stage1.method", ..., r"tiny.yaml: rows.student.stage1.method: missing"),
    Mistake(
        "schedules.short",
        [{"until": 8, "rate": 1}, {"until": 4, "rate": 1}],
        r"schedules.short: 'until' must increase, and is \[8, 4\]",
        told_by_schema=False,
    ),
    Mistake(
        "schedules.short",
        [{"until": 8, "rate": -0.1}],
        r"schedules.short.0.rate = -0.1: input should be greater than 0",
    ),
    Mistake(
        "divide_schedules",
        {"images": 30},
        r"rows.teacher.stage2.schedule: divide_schedules.images = 30 turns its iterations \[12, 20\] into \[0, 1\]. Divide",
        told_by_schema=False,
    ),
    Mistake(
        "divide_schedules",
        {"image": 2},
        r"divide_schedules.image = 'image': no such entry.*did you mean 'images'",
        told_by_schema=False,
    ),
    Mistake(
        "networks.net.architecture", "vgg", r"networks.net.architecture = 'vgg': must be one of 'cifar_resnet', 'imagen"
    ),
    Mistake("networks.net.depth", 9, r"networks.net.depth: must be 6n\+2", told_by_schema=False),
    Mistake(
        "tables.table1.rows.Teacher",
        "students",
        r"tables.table1.rows.Teacher = 'students'.*did you mean 'student'\?",
        told_by_schema=False,
    ),
    Mistake(
        "rows.teacher.stage1_of",
        "teacher",
        r"rows.teacher.stage1_of = 'teacher': that row has no shared stage 1",
        told_by_schema=False,
    ),
    Mistake(
        "rows.student.stage1_of", "fitnet", r"rows.student: stage1_of excludes stage1 and start", told_by_schema=False
    ),
    Mistake("rows.student.start", "Teacher", r"rows.student.start: must be scratch, row/number.*and is 'Teacher'"),
    Mistake(
        "pretrained",
        {"scratch": {"weights": "ResNet34_Weights.IMAGENET1K_V1", "network": "net", "sha256": "b627a593"}},
        r"pretrained.scratch: in a row, start: scratch means no pretrained weights. Give this entry another name",
        told_by_schema=False,
    ),
    Mistake(
        "rows.student.start",
        "imagenet",
        r"rows.student.start = 'imagenet': no such entry in pretrained",
        told_by_schema=False,
    ),
    Mistake(
        "rows.student.start",
        "teacher",
        r"rows.student.start = 'teacher': must be one net of that row, such as teacher/1",
        told_by_schema=False,
    ),
    Mistake("tables.table1.rows", {}, r"tables.table1.rows = \{\}: must not be empty"),
    Mistake(
        "tables.table1.marks",
        {"§": "nothing"},
        r"tables.table1.marks: no label of the table has '§'. Remove it",
        told_by_schema=False,
    ),
    Mistake(
        "tables.figure3",
        {"title": "T", "rows": {"A": "teacher"}},
        r"figures.figure3: .* the same name as that of tables.figure3",
        told_by_schema=False,
    ),
    Mistake(
        "tables.claims",
        {"title": "T", "rows": {"A": "teacher"}},
        r"tables.claims: its file would have the same name as the claims'",
        told_by_schema=False,
    ),
    Mistake(
        "tables.nets",
        {"title": "T", "rows": {"A": "teacher"}},
        r"tables.nets: its file would have the same name as the list of exported nets'",
        told_by_schema=False,
    ),
    Mistake(
        "rows.fitnet.stage1.sections",
        [1, 4],
        r"fitnet-stage1: sections = \[1, 4\]: the networks have 3",
        told_by_schema=False,
    ),
    Mistake(
        "tables.table1.rows.Teacher",
        "teacher/3",
        r"tables.table1.rows.Teacher = 'teacher/3'.*has only 2 nets",
        told_by_schema=False,
    ),
    Mistake(
        "rows.fitnet.stage1",
        hint(),
        r"rows.fitnet.stage1: needs either sections, or guided and hint",
        told_by_schema=False,
    ),
    Mistake(
        "rows.fitnet.stage1",
        hint(sections=[1], guided="section1", hint="section1"),
        r"rows.fitnet.stage1: needs either sections, or guided and hint. Give one of the two",
        told_by_schema=False,
    ),
    Mistake(
        "rows.fitnet.stage1",
        hint(guided="section1"),
        r"rows.fitnet.stage1: needs either sections, or guided and hint",
        told_by_schema=False,
    ),
    Mistake(
        "rows.fitnet.stage1",
        hint(guided="sectoin2", hint="section1"),
        r"fitnet-stage1: guided = 'sectoin2': no feature map of resnet8; did you mean 'section2'\?",
        told_by_schema=False,
    ),
    Mistake(
        "rows.fitnet.stage1",
        hint(guided="section2", hint="logits"),
        r"fitnet-stage1: hint = 'logits': no feature map of resnet8",
        told_by_schema=False,
    ),
    Mistake("rows.fitnet.stage1.regressor_init", 0, r"rows.fitnet.stage1.regressor_init = 0: input should be greater"),
    Mistake(
        "rows.fitnet.stage1.reduction", "row", r"rows.fitnet.stage1.reduction = 'row': input should be 'mean', 'rows'"
    ),
    Mistake("rows.fitnet.stage2.soften_student", True, r"fitnet.stage2.soften_student = True: input should be False"),
    Mistake(
        "rows.fitnet.stage1.sections",
        [2, 1],
        r"rows.fitnet.stage1.sections: must be in increasing order",
        told_by_schema=False,
    ),
    Mistake(
        "data.images.source", "imagenet", r"data.images.source = 'imagenet': must be one of 'digits', 'torchvision'"
    ),
    Mistake(
        "results",
        "elsewhere",
        r"results: must be results, or a folder in it other than runs and logs, .* is 'elsewhere'",
    ),
    Mistake(
        "results",
        "results/runs",
        r"results: must be results, or a folder in it other than runs and logs, .* is 'results/runs'",
    ),
    Mistake(
        "networks.net",
        {"architecture": "imagenet_resnet", "modules": [2, 2, 2], "width": 4},
        r"tiny.yaml: networks.net.modules.3: missing",
    ),
    Mistake(
        "networks.net",
        {"architecture": "maxout", "layers": [{"full": 5}], "init": [1]},
        r"tiny.yaml: networks.net.init",
    ),
    Mistake("seed", -1, r"seed = -1: input should be greater than or equal to 0"),
    Mistake("sede", 3, r"tiny.yaml: sede = 3: unknown key"),
    Mistake("seed", ..., r"tiny.yaml: seed: missing"),
    Mistake("seed", "1", r"seed = '1': must be a whole number, such as 10000"),
    Mistake("data.images.augment.rotate", 5, r"data.images.augment.rotate = 5: unknown key"),
    Mistake("data.images.dataset", "MNIST", r"data.images.dataset = 'MNIST': unknown key"),
    Mistake("data.images.classes", [1, 10], r"data.images.classes.1 = 10: input should be less than or equal to 9"),
    Mistake("training.stop", {"patience": 9}, r"training.stop.by: missing; this key must be given"),
    Mistake("rows.student.stop", {"by": "validation"}, r"rows.student.stop.patience: missing; this key must be given"),
    Mistake(
        "rows.student",
        {
            "data": "images",
            "network": "net",
            "nets": 2,
            "stage1": {"method": "relational_kd", "teacher": "teacher/1", "schedule": "first"},
            "stage2": {"method": "cross_entropy", "schedule": "short"},
            "stop": {"by": "validation", "patience": 9},
        },
        r"rows.student.stage1.method = 'relational_kd': compares the images of a batch .* Give the row stop: {by: schedule}",
        told_by_schema=False,
    ),
    Mistake("rows.student.stop", {"by": "schedule", "every": 5}, r"rows.student.stop.every = 5: unknown key"),
    Mistake(
        "training.stop",
        {"by": "validation", "patience": 9},
        r"tiny.yaml: training.stop: by validation, but data set 'images' of teacher, fitnet, student sets no images aside",
        told_by_schema=False,
    ),
    Mistake(
        "rows.student.stop",
        {"by": "validation", "patience": 9},
        r"tiny.yaml: rows.student.stop: by validation.* 'images' of student sets .* Set data.images.validation",
        told_by_schema=False,
    ),
    Mistake(
        "rows.student.stop",
        {"by": "validation", "patience": 4},
        r"rows.student.stop.patience = 4: ends a stage before .* every 5 iterations, with a patience of 4. "
        r"Give a smaller 'every'",
        told_by_schema=False,
    ),
    Mistake("data.images.validation", 0, r"data.images.validation = 0: input should be greater than 0"),
    Mistake(
        "data.images.preprocess",
        {"method": "zca"},
        r"data.images.preprocess.method = 'zca': must be one of 'gcn_zca', 'gcn_lcn'",
    ),
    Mistake(
        "data.images.preprocess",
        {"method": "gcn_zca", "bias": 0},
        r"data.images.preprocess.bias = 0: input should be greater than 0",
    ),
    Mistake(
        "data.images.preprocess",
        {"method": "gcn_lcn", "scale": 1},
        r"data.images.preprocess.scale = 1: unknown key",
    ),
    Mistake(
        "data.images",
        {"name": "mnist", "source": "torchvision", "dataset": "MNIST", "extra": True},
        r"data.images.extra: only SVHN has extra images, but dataset is 'MNIST'; remove this key",
        told_by_schema=False,
    ),
    Mistake(
        "data.images",
        {"name": "svhn", "source": "torchvision", "dataset": "SVHN", "extra": False},
        r"data.images.extra = False: input should be True",
    ),
    Mistake("data.images.sha256", "eecd", r"data.images.sha256: must be 64 hexadecimal digits"),
    Mistake("networks.net.modules", [1, 1, 1, 1], r"networks.net.modules = .*: unknown key"),
    Mistake(
        "networks.Net", {"architecture": "cifar_resnet", "depth": 8, "width": 4}, r"networks.Net.*must be lower-case"
    ),
    Mistake(
        "training.precision", "float16", r"training.precision = 'float16': input should be 'float32' or 'bfloat16'"
    ),
    Mistake("training.optimizer.weight_decay", "little", r"weight_decay = 'little': input should be a valid number"),
    Mistake("rows.student.nets", 0, r"rows.student.nets = 0: input should be greater than 0"),
    Mistake(
        "rows.student.stage1.shuffle", True, r"rows.student.stage1.shuffle = True: input should be 'none', 'channel'"
    ),
    Mistake("rows.fitnet.stage1.sections", [0], r"rows.fitnet.stage1.sections.0 = 0: input should be greater than 0"),
    Mistake("tables.table1.reference", "/tmp/table1.csv", r"tables.table1.reference: must be a file in config/"),
    Mistake(
        "figures.figure3.kind", "bars", r"figures.figure3.kind = 'bars': must be one of 'curves', 'depth', 'plateau'"
    ),
    Mistake(
        "figures.figure3.curves.Teacher", "Teacher", r"figures.figure3.curves.Teacher: must be a row, or one net of it"
    ),
    Mistake(
        "figures.figure2",
        depth({"wide": {"BP": ["teacher", "student"]}}),
        r"figures.figure2.panels.wide.BP: teacher and student both have 8 layers. Name one row for each number",
        told_by_schema=False,
    ),
    Mistake(
        "figures.figure2",
        depth({"wide": {"BP": ["teacher"]}, "thin": {"BP": ["teacher"]}}),
        r"figures.figure2.panels: names teacher more than once. Give each point a row of its own",
        told_by_schema=False,
    ),
    Mistake(
        "figures.figure2",
        depth({"wide": {"BP": ["techer"]}}),
        r"figures.figure2.panels.wide.BP = 'techer': no such entry in rows; did you mean 'teacher'",
        told_by_schema=False,
    ),
    Mistake(
        "figures.matrices",
        {"kind": "matrices", "title": "T", "net": "fitnet/1"},
        r"figures.matrices.net = 'fitnet/1': must be one net of a row whose first stage learns FSP matrices",
        told_by_schema=False,
    ),
    Mistake(
        "figures.figure2", depth({"wide": {"BP": []}}), r"figures.figure2.panels.wide.BP = \[\]: must not be empty"
    ),
    Mistake("figures.figure2", depth({"wide": {}}), r"figures.figure2.panels.wide = \{\}: must not be empty"),
    Mistake("timings.timing.students", ..., r"timings.timing.students: missing"),
    Mistake("tables", ..., r"tables: missing"),
    Mistake("tables.table1.intervals", "seeds", r"tables.table1.intervals = 'seeds': input should be 'nets'"),
    Mistake(
        "tables.table1.intervals",
        "nets",
        r"tables.table1: intervals over nets need nets that are independent.* those of student share a stage 1",
        told_by_schema=False,
    ),
    Mistake(
        "tables.table2",
        {"title": "T", "rows": {"A": "teacher/1", "B": "fitnet"}, "intervals": "nets"},
        r"tables.table2: intervals over nets come from the spread within rows, but no row has two nets",
        told_by_schema=False,
    ),
    Mistake("tables.table1.measure", "loss", r"tables.table1.measure = 'loss': input should be 'error'"),
    Mistake(
        "tables.table1.measure",
        "error",
        r"config/fsp/reference/table1_cifar10.csv: has no column 'error'. Add one",
        told_by_schema=False,
    ),
    Mistake(
        "tables.table1.reference",
        "fsp/reference/timing.csv",
        r"config/fsp/reference/timing.csv: has no column 'row'",
        told_by_schema=False,
    ),
    Mistake(
        "tables.table1.reference",
        "fsp/reference/table5_cub200_resnet20.csv",
        r"table5_cub200_resnet20.csv: has none of the rows of tables.table1 .*'Teacher, fine-tuned', .*, but not 'Teacher'",
        told_by_schema=False,
    ),
    Mistake(
        "figures.figure2",
        {**depth({"wide": {"BP": ["teacher"]}}), "reference": "fsp/reference/check.csv"},
        r"config/fsp/reference/check.csv: has no column 'panel'. Add one, or name another file as reference",
        told_by_schema=False,
    ),
    Mistake(
        "timings.timing.reference",
        "fsp/reference/times.csv",
        r"config/fsp/reference/times.csv, which timings.timing of preset 'tiny' names: cannot be read: No such file",
        told_by_schema=False,
    ),
    Mistake(
        "timings.timing.reference",
        "fsp/reference/check.csv",
        r"config/fsp/reference/check.csv: has no column 'what'. Add one",
        told_by_schema=False,
    ),
    Mistake("tables.table1.quoted", [], r"tables.table1.quoted = \[\]: must not be empty"),
    Mistake(
        "tables.table1.quoted",
        ["Teacher*", "Studend*†"],
        r"config/fsp/reference/table1_cifar10.csv: has no row 'Studend\*†', which tables.table1.quoted .*'Student\*†'",
        told_by_schema=False,
    ),
    Mistake(
        "tables.table1.quoted",
        ["Teacher‡", "Student*"],
        r"tables.table1.quoted: 'Student\*': the table has that row already",
        told_by_schema=False,
    ),
    Mistake(
        "tables.table2",
        {"title": "T", "rows": {"A": "teacher"}, "quoted": ["B"]},
        r"tables.table2.quoted: these rows come from the file of published numbers. Name it as reference",
        told_by_schema=False,
    ),
    Mistake(
        "figures.figure3.stage",
        1,
        r"figures.figure3.curves.Teacher = 'teacher': that row has no stage 1",
        told_by_schema=False,
    ),
    Mistake("figures.figure3.stage", 2, r"figures.figure3.stage = 2: input should be 1"),
    Mistake(
        "alternatives",
        {"choices": alternatives({"wrong": {"stage2": {"shedule": "long"}}})},
        r"tiny.yaml: alternatives.choices.changes.wrong.stage2.shedule = 'long': unknown key",
    ),
    Mistake(
        "alternatives",
        {"choices": alternatives({"wrong": {}})},
        r"tiny.yaml: alternatives.choices.changes.wrong = \{\}: must not be empty",
        told_by_schema=False,  # draft 7 ignores rules beside a $ref, here to a row's keys
    ),
    Mistake(
        "alternatives",
        {"choices": alternatives({"wrong": {"stage2": {"schedule": "shrot"}}})},
        r"tiny.yaml: alternatives.choices.changes.wrong.stage2.schedule = 'shrot': .*did you mean 'short'",
        told_by_schema=False,
    ),
    Mistake(
        "alternatives",
        {"choices": alternatives(LONGER, row="techer")},
        r"tiny.yaml: alternatives.choices.row = 'techer': no such entry in rows; did you mean 'teacher'",
        told_by_schema=False,
    ),
    Mistake(
        "alternatives",
        {"choices": alternatives(LONGER, Student="studnet")},
        r"tiny.yaml: alternatives.choices.beside.Student = 'studnet': no such entry in rows; did you mean 'student'",
        told_by_schema=False,
    ),
    Mistake(
        "alternatives",
        {"choices": alternatives(LONGER, teacher="fitnet")},
        r"tiny.yaml: alternatives.choices.beside: two lines of the table would have the label 'teacher'",
        told_by_schema=False,
    ),
    Mistake(
        "alternatives",
        {"choices": alternatives({**LONGER, "twin": LONGER["longer"]})},
        r"alternatives.choices.changes.twin: two lines of the table would have the label 'stage2.schedule = long'",
        told_by_schema=False,
    ),
    Mistake(
        "alternatives",
        {"one": alternatives(LONGER), "two": alternatives(LONGER)},
        r"tiny.yaml: alternatives.two.changes.longer: there is already a row 'teacher_longer'",
        told_by_schema=False,
    ),
    Mistake(
        "alternatives",
        {"table1": alternatives(LONGER)},
        r"tiny.yaml: alternatives.table1: there is already a table of that name",
        told_by_schema=False,
    ),
    Mistake(
        "alternatives",
        {"choices": alternatives(LONGER, row="student")},
        r"tiny.yaml: alternatives.choices: intervals over nets .* those of student, student_longer share a stage 1",
        told_by_schema=False,
    ),
    Mistake("networks.net", maxout(), r"tiny.yaml: networks.net.layers = \[\]: must not be empty"),
    Mistake(
        "networks.net",
        maxout({"conv": 4, "kernel": 3, "full": 5}),
        r"networks.net.layers.0: conv = 4, full = 5: exactly one of the two must be given",
        told_by_schema=False,
    ),
    Mistake(
        "networks.net",
        maxout({"full": 5}, {"full": 5, "pad": 1, "pool": 2}),
        r"networks.net.layers.1: pad = 1, pool = 2: not allowed in a layer with full = 5. Remove it",
        told_by_schema=False,
    ),
    Mistake(
        "networks.net",
        maxout({"conv": 4}),
        r"networks.net.layers.0: conv = 4: kernel is missing. Give the size",
        told_by_schema=False,
    ),
    Mistake(
        "networks.net",
        maxout({"conv": 4, "kernel": 3, "pool": 2, "stride": 3}),
        r"networks.net.layers.0: stride = 3, pool = 2: the windows leave gaps",
        told_by_schema=False,
    ),
    Mistake(
        "networks.net",
        maxout({"full": 5}, {"conv": 4, "kernel": 3}),
        r"networks.net.layers: layer 2, conv = 4, comes after full = 5.* Put it before",
        told_by_schema=False,
    ),
    Mistake(
        "networks.net",
        maxout({"full": 5, "piece": 3}),
        r"networks.net.layers.0.piece = 3: unknown key",
    ),
    Mistake("networks.net", maxout({"full": 5}, init="units"), r"networks.net.init = 'units': input should be 'unit'"),
    Mistake("networks.net", maxout({"full": 5}, init=0), r"networks.net.init = 0: .*greater than 0"),
    Mistake(
        "networks.net",
        maxout({"full": 5}, keep={"hidden": 1.5}),
        r"networks.net.keep.hidden = 1.5: input should be less than or equal to 1",
    ),
    Mistake("name", "mine", r"name = 'mine': unknown key"),
]
