"""The held-out rows that the result got most wrong, as a person reads them: text, what was wanted, what it said."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.rows import Rows
from recommender.facts import CLASSIFYING

MOST = 40
SHOWN = 500
"""Characters of a text."""


def worst(task: str, labels: Sequence[str], rows: Rows, kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the rows that were answered wrong those with the greatest loss, the worst first.

    `kept` is what `scores/after.json` holds. Nothing of raw text: its scores are of pieces, even where there are as many.
    """
    truth, predicted, losses = (kept.get(name) or [] for name in ("truth", "predicted", "losses"))
    if task == "continued_pretraining" or not len(rows) == len(truth) == len(predicted) == len(losses):
        return []
    wrong = [i for i in range(len(rows)) if _is_wrong(task, truth[i], predicted[i])]
    wrong.sort(key=lambda i: -losses[i])
    return [
        {
            "row": rows.numbers[i],
            "text": rows.texts[i][:SHOWN],
            **_told(task, labels, truth[i], predicted[i], rows.items[i] if rows.items else None),
            "loss": losses[i],
        }
        for i in wrong[:MOST]
    ]


def _is_wrong(task: str, truth: Any, predicted: Any) -> bool:
    if task == "preference":
        return bool(predicted[0] <= predicted[1])  # the rewards of the chosen answer and of the rejected one
    return task not in CLASSIFYING or truth != predicted


def _told(task: str, labels: Sequence[str], truth: Any, predicted: Any, item: Any) -> dict[str, str | None]:
    """What was wanted, and what was said instead; nothing where only the loss of a text is known."""
    if task in CLASSIFYING:
        return {"wanted": in_words(task, labels, truth, item), "said": in_words(task, labels, predicted, item)}
    if task == "preference":
        chosen, rejected = (str(item[side][0]["content"])[:SHOWN] for side in ("chosen", "rejected"))
        return {"wanted": chosen, "said": rejected}
    if len(predicted) > 2 and predicted[2] is not None:  # for some rows an answer was written
        return {"wanted": str(truth)[:SHOWN], "said": predicted[2][:SHOWN]}
    return {"wanted": None, "said": None}


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
