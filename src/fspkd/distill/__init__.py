"""The objectives that a stage can train for, by the name of their method.

An objective is a module. It is made from (settings, seed, stream, student's network, teacher's network); called with
(student, teacher, images, labels, progress) it gives the loss, with progress running from 0 to 1 over the stage. Its
`student_taps` are the feature maps that the loss reads, and only layers up to the last of them are trained; empty
where it reads the logits. Its own parameters (a hint's regressors, say) are trained along and thrown away after.

To add a method: its settings in config.py, its objective here, and a row that names it.
"""

from fspkd.distill.fsp import FspObjective
from fspkd.distill.hint import HintObjective
from fspkd.distill.kd import CrossEntropyObjective, KnowledgeDistillationObjective

OBJECTIVES = {
    "cross_entropy": CrossEntropyObjective,
    "kd": KnowledgeDistillationObjective,
    "fsp": FspObjective,
    "hint": HintObjective,
}
