"""Which class does which task."""

from engine.worker.tasks.base import Task
from engine.worker.tasks.classification import Classification
from engine.worker.tasks.multi_label import MultiLabel
from engine.worker.tasks.regression import Regression
from engine.worker.tasks.tags import TaggedWords
from engine.worker.tasks.writing import Writing
from recommender.plan import Plan

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "token_classification": TaggedWords,
    "chat": Writing,
    "instruction": Writing,
    "continued_pretraining": Writing,
}


def task_of(plan: Plan, labels: list[str], pad: int = 0) -> Task:
    """The work of a plan; `pad` is the id of the padding token.

    Raises:
        KeyError: there is no trainer for it; `check_supported` says so before.
    """
    return TASKS[plan.task](plan, labels, pad)
