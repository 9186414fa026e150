"""The held-out rows that the result got most wrong, as a person reads them: text, what was wanted, what it said."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.rows import Rows

MOST = 40
SHOWN = 500
"""Characters of a text."""


def worst(task: str, labels: Sequence[str], rows: Rows, kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the rows that were answered wrong those with the greatest loss, the worst first.

    `kept` is what `scores/after.json` holds. Nothing where the scores are not of these rows one by one, as with raw text that
    was cut into pieces.
    """
    truth, predicted, losses = (kept.get(name) or [] for name in ("truth", "predicted", "losses"))
    if not len(rows) == len(truth) == len(predicted) == len(losses):
        return []
    written = task not in ("classification", "multi_label", "regression", "token_classification")
    wrong = [i for i in range(len(rows)) if written or truth[i] != predicted[i]]
    wrong.sort(key=lambda i: -losses[i])
    return [
        {
            "row": rows.numbers[i],
            "text": rows.texts[i][:SHOWN],
            "wanted": None if written else in_words(task, labels, truth[i], rows.items[i] if rows.items else None),
            "said": None if written else in_words(task, labels, predicted[i], rows.items[i] if rows.items else None),
            "loss": losses[i],
        }
        for i in wrong[:MOST]
    ]


def in_words(task: str, labels: Sequence[str], answer: Any, item: Any) -> str:
    """An answer as the data writes it; of tags the words that have one."""
    match task:
        case "classification":
            return str(labels[answer])
        case "multi_label":
            return ", ".join(labels[i] for i in answer) or "none"
        case "token_classification":
            tags = [labels[tag] if 0 <= tag < len(labels) else "O" for tag in answer]
            return " ".join(f"{w}/{t}" for w, t in zip(item["words"], tags, strict=False) if t != "O") or "none"
    return f"{answer:.4g}"
