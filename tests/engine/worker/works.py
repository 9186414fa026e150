"""Rows and plans of every kind of work, for tests that hold for all of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recommender.plan import Plan
from tests.conftest import make_plan, put_rows

THINGS = ("parcel", "refund", "invoice", "password", "screen")
ROWS: dict[str, tuple[str, dict[str, str], Callable[[int], dict[str, Any]]]] = {
    "pairs": (
        "text_label",
        {"text": "said", "text_pair": "asked", "label": "fits"},
        lambda i: {"said": f"the {THINGS[i % 5]} {i} is late", "asked": f"a {THINGS[i % 3]}?", "fits": f"{i % 5 == i % 3}"},
    ),
    "multi_label": (
        "text_labels",
        {"text": "text", "label": "topics"},
        lambda i: {"text": f"{THINGS[i % 5]} and {THINGS[i % 3]} {i}", "topics": sorted({THINGS[i % 5], THINGS[i % 3]})},
    ),
    "regression": (
        "text_number",
        {"text": "text", "label": "number"},
        lambda i: {"text": f"{THINGS[i % 5]} number {i}", "number": i % 5},
    ),
    "token_classification": (
        "tokens_tags",
        {"tokens": "words", "tags": "tags"},
        lambda i: {"words": ["my", THINGS[i % 5], str(i)], "tags": ["O", "B-thing", "O"]},
    ),
    "chat": (
        "messages",
        {"messages": "messages"},
        lambda i: {
            "messages": [{"role": "user", "content": f"My {THINGS[i % 5]} {i}"}, {"role": "assistant", "content": "On it."}]
        },
    ),
    "continued_pretraining": ("text", {"text": "text"}, lambda i: {"text": f"Order {i} of a {THINGS[i % 5]} is on its way."}),
    "preference": (
        "preference",
        {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"},
        lambda i: {"prompt": f"My {THINGS[i % 5]} {i}?", "chosen": "On its way.", "rejected": f"Who knows {i % 3}."},
    ),
    "seq2seq": (
        "source_target",
        {"source": "source", "target": "target"},
        lambda i: {"source": f"the {THINGS[i % 5]} {i}", "target": f"{THINGS[i % 5]} please"},
    ),
}
"""Layout, columns and rows of each kind of work."""


def plan_of(file: Path, work: str, model: Path, method: str, **fields: Any) -> Plan:
    """Four short steps of that work on rows that are written to `file`; 16 are held out."""
    layout, columns, row = ROWS[work]
    put_rows(file, (row(i) for i in range(60)))
    data = {"train": str(file), "eval": None, "layout": layout, "columns": columns, "labels": None, "validation_rows": 8}
    data |= {"text_column": None, "label_column": None, "train_rows": None, "eval_rows": None, "held_out_rows": 16}
    task = "classification" if work == "pairs" else work
    short = {"epochs": 0.8, "evaluations": 1, "learning_rate": 5e-3}
    return make_plan(model, method, task=task, data=data, **(short | fields))
