"""Rows with several labels, a number, a tag a word or two texts, which a tiny model can learn from, and plans for them."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recommender.plan import Plan
from tests.conftest import make_plan, put_rows

PlanOf = Callable[..., Plan]
SAID = {
    "money": ["refund the invoice", "the card was charged twice", "a discount on the bill"],
    "parcel": ["the parcel is late", "my order was delivered broken", "tracking shows nothing"],
    "login": ["I forgot my password", "the account is locked", "two factor code never comes"],
}
PLACES = ["berlin", "paris", "new york", "lima"]
ROLES = {
    "multi_label": ("text_labels", {"text": "text", "label": "topics"}),
    "regression": ("text_number", {"text": "text", "label": "minutes"}),
    "token_classification": ("tokens_tags", {"tokens": "words", "tags": "tags"}),
    "pairs": ("text_label", {"text": "said", "text_pair": "asked", "label": "fits"}),
}


def made(task: str, rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows that a tiny model can learn something of."""
    order = random.Random(seed)
    for n in range(rows):
        topics = [t for t in SAID if order.random() < 0.45]
        said = [order.choice(SAID[t]) for t in topics] + [f"case {seed} {n}"]
        order.shuffle(said)
        text = ", ".join(said)
        if task == "multi_label":
            yield {"text": text, "topics": topics}
        elif task == "pairs":
            asked = order.choice([*SAID])
            yield {"said": text, "asked": f"is it about {asked}", "fits": "yes" if asked in topics else "no"}
        elif task == "regression":
            yield {"text": text, "minutes": 2000 + 500 * len(topics) + 0.25 * (n % 4)}
        else:
            place = order.choice(PLACES).split()
            words = [*text.split(), "in", *place]
            yield {"words": words, "tags": ["O"] * (len(words) - len(place)) + ["B-place"] + ["I-place"] * (len(place) - 1)}


def plan_on(folder: Path, task: str, model: Path, method: str = "full", **fields: Any) -> Plan:
    """A plan for one of these tasks, of which `pairs` is a classification; its rows are written to `folder`."""
    layout, columns = ROLES[task]
    train = put_rows(folder / f"{task}-train.jsonl", made(task, 150, 1))
    held_out = put_rows(folder / f"{task}-held-out.jsonl", made(task, 40, 2))
    data = {"train": train, "eval": held_out, "layout": layout, "columns": columns, "labels": None}
    data |= {"text_column": None, "label_column": None, "train_rows": None, "eval_rows": None}
    adapter = {} if method == "full" else {"learning_rate": 5e-3}
    named = "classification" if task == "pairs" else task
    return make_plan(model, method, data=data, task=named, **({"max_length": 64, "epochs": 3.0} | adapter | fields))
