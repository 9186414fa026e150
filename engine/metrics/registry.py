"""Which metrics belong to which task."""

from collections.abc import Sequence

from engine.metrics.answers import WrittenAnswers
from engine.metrics.classes import Classes
from engine.metrics.kinds import Kind
from engine.metrics.labels import Labels
from engine.metrics.numbers import Numbers
from engine.metrics.pairs import Pairs
from engine.metrics.tags import Tags
from engine.metrics.tokens import Tokens
from recommender.facts import Task

KINDS: dict[Task, type[Kind]] = {
    "classification": Classes,
    "multi_label": Labels,
    "regression": Numbers,
    "token_classification": Tags,
    "chat": WrittenAnswers,
    "instruction": WrittenAnswers,
    "continued_pretraining": Tokens,
    "seq2seq": WrittenAnswers,
    "preference": Pairs,
}


def kind_of(task: Task, labels: Sequence[str]) -> Kind:
    """The metrics of a task; `labels` where it has classes."""
    return KINDS[task](labels)
