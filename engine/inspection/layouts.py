"""How rows can be written down, what each layout is for, and the columns it needs."""

from collections.abc import Mapping
from dataclasses import dataclass

from recommender.facts import Layout, Task

TASKS: dict[Layout, tuple[Task, ...]] = {
    "preference": ("preference",),
    "messages": ("chat",),
    "sharegpt": ("chat",),
    "tokens_tags": ("token_classification",),
    "alpaca": ("instruction",),
    "prompt_completion": ("instruction", "seq2seq"),
    "source_target": ("seq2seq", "instruction"),
    "text_labels": ("multi_label",),
    "text_number": ("regression",),
    "text_label": ("classification",),
    "text": ("continued_pretraining",),
}
"""What a layout can be used for; the first is meant unless the person says otherwise."""
ROLES: dict[Layout, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "messages": ("messages",),
    "sharegpt": ("messages",),
    "tokens_tags": ("tokens", "tags"),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "source_target": ("source", "target"),
    "text_labels": ("text",),
    "text_number": ("text", "label"),
    "text_label": ("text", "label"),
    "text": ("text",),
}
"""The columns it cannot do without."""
OPTIONAL: dict[Layout, tuple[str, ...]] = {
    "preference": ("prompt", "input", "system"),
    "messages": ("prompt", "system"),
    "sharegpt": ("prompt", "system"),
    "alpaca": ("input", "system", "history"),
    "prompt_completion": ("input", "system", "history"),
    "text_labels": ("label",),
    "text_label": ("text_pair",),
    "text_number": ("text_pair",),
}
GROUP = "group"
"""The role, in any layout, of a column that a person names because rows of one of its values belong together."""
MAY_LACK = ("input", "system", "history", GROUP)
"""Roles of columns that another file of such rows, a held-out one, need not have."""
ONE_EACH = ("output", "completion", "target")
"""Roles of columns whose text may stand in a list of its own, as annotation tools write an answer."""
KNOWN_ROLES = tuple(dict.fromkeys(role for roles in (*reversed(ROLES.values()), *OPTIONAL.values(), (GROUP,)) for role in roles))


def nameable(columns: Mapping[str, str]) -> dict[str, str]:
    """Of columns by role, those that a person can name: not the 0/1 columns of a multi-label set, which are found anew."""
    return {role: name for role, name in columns.items() if role in KNOWN_ROLES}


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are to be read."""

    task: Task
    layout: Layout
    columns: dict[str, str]
    """Columns by role; the 0/1 columns of a multi-label set are `label 1`, `label 2`, ..."""
    confidence: float
    separator: str | None = None
    """What parts the labels in one value: a character, or `list` for a list written out."""
    labels: tuple[str, ...] | None = None
    """Classes as they are to be written: what differs from one of them in case or spaces alone is that one."""
