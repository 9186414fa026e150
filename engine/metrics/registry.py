"""Which metrics belong to which task."""

from collections.abc import Sequence

from engine.metrics.classes import Classes
from engine.metrics.kinds import Kind
from recommender.facts import Task


def kind_of(task: Task, labels: Sequence[str]) -> Kind:
    """The metrics of a task; `labels` where it has classes.

    Raises:
        KeyError: no trainer scores that task.
    """
    return {"classification": Classes}[task](labels)
