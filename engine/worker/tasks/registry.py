"""Which class does which task."""

from engine.worker.tasks.base import Task
from engine.worker.tasks.classification import Classification
from recommender.plan import Plan

TASKS: dict[str, type[Task]] = {"classification": Classification}


def task_of(plan: Plan, labels: list[str], pad: int = 0) -> Task:
    """The work of a plan; `pad` is the id of the padding token.

    Raises:
        KeyError: there is no trainer for it; `check_supported` says so before.
    """
    return TASKS[plan.task](plan, labels, pad)
