"""Which class does which task."""

from engine.worker.tasks.base import Task
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.classification import Classification
from engine.worker.tasks.multi_label import MultiLabel
from engine.worker.tasks.preference import Preference
from engine.worker.tasks.raw_text import RawText
from engine.worker.tasks.regression import Regression
from engine.worker.tasks.seq2seq import Seq2Seq
from engine.worker.tasks.tags import TaggedWords
from recommender.facts import Family
from recommender.plan import Plan

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "token_classification": TaggedWords,
    "chat": Chat,
    "instruction": Chat,
    "continued_pretraining": RawText,
    "seq2seq": Chat,
    "preference": Preference,
}
"""Of encoders and decoders: a decoder answers one text with another in a conversation of one question."""


def task_of(plan: Plan, labels: list[str], pad: int = 0, family: Family | None = None) -> Task:
    """The work of a plan; `pad` is the id of the padding token, `family` that of the model."""
    reads_and_writes = family == "encoder-decoder" and plan.task in ("seq2seq", "instruction", "chat")
    return (Seq2Seq if reads_and_writes else TASKS[plan.task])(plan, labels, pad, family)
