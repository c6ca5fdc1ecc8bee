"""The objectives that a stage can train for, by the name of their method.

To add a method: its settings in config.py, its objective (objective.py says what that is) here, in a module with the
method's name, and a row that names it.
"""

from fspkd.distill.cross_entropy import CrossEntropyObjective
from fspkd.distill.fsp import FspObjective
from fspkd.distill.hint import HintObjective
from fspkd.distill.kd import KnowledgeDistillationObjective

OBJECTIVES = {
    "cross_entropy": CrossEntropyObjective,
    "kd": KnowledgeDistillationObjective,
    "fsp": FspObjective,
    "hint": HintObjective,
}
