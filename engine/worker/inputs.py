"""What a run works on: model and data as the plan means them, and the rows as the model reads them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.inspection.model import inspect_folder, is_another
from engine.refusals import check_task
from engine.rows import Rows, Split, numbered
from engine.tables.files import fingerprint
from engine.worker.arguments import check_supported
from engine.worker.modeling import maybe_moved, model_folder
from engine.worker.narrator import Narrator
from engine.worker.tasks.base import Encoded, Task
from recommender.counting import MOST_UNTRAINED
from recommender.errors import InputError
from recommender.facts import Family
from recommender.plan import Plan

TORN = (
    "Too many rows share one question, first message or text to be kept on one side of the split: scores may be too good. "
    "Give held-out rows of your own with --eval."
)
SEEN = (
    "One training row shares its question, or its first message or text, with a held-out row, and goes on otherwise.",
    "{n:,} training rows share their question, or their first message or text, with held-out rows, and go on otherwise.",
)
GROUPS_SEEN = (
    "Training rows of the same groups as held-out rows: {n:,}. They are learned, so scores may be better than of new ones."
)
USES = {"train": "training", "validation": "validation", "held_out": "held-out"}
"""What rows are for, in words."""


def verified_folder(plan: Plan) -> tuple[str, Family | None]:
    """The model's folder and its family, after model and data were found to be those of the plan.

    Raises:
        InputError: they have changed since, or this machine cannot do what the plan says.
    """
    check_supported(plan)
    data = plan.data
    for name, expected in ((data.train, data.train_fingerprint), (data.eval, data.eval_fingerprint)):
        with maybe_moved(name or ""):
            changed = name and expected and fingerprint(name) != expected
        if changed:
            cure = "put it back as it was, or make a new plan with `loracle plan`."
            raise InputError(f"{name} has changed since the plan was made; {cure}")
    folder = model_folder(plan.model)
    found = inspect_folder(folder, plan.model.id)
    family = found["facts"]["family"]
    check_task(plan.task, family)
    if is_another(found, plan.model.fingerprint):
        cure = "put it back as it was, or make a new plan."
        raise InputError(f"{plan.model.id}: the model has changed since the plan was made; {cure}")
    positions = found["facts"]["max_positions"]
    if positions and plan.max_length > positions:
        raise InputError(f"max_length is {plan.max_length}, and {plan.model.id} reads {positions} tokens at most.")
    return folder, family


def encoded(task: Task, tokenizer: Any, parts: Split, tell: Narrator) -> tuple[dict[str, Encoded], Split]:
    """The rows by use as the model reads them, and the same rows of `parts`, without the texts to train on, of a million rows a
    gigabyte.

    Raises:
        InputError: nothing is left to train on, or too little of it; or nothing to score on, where rows were kept for it.
    """
    by_use = {"train": parts.train, "validation": parts.validation, "held_out": parts.held_out}
    rows = {use: task.encode(tokenizer, which, tell.progress("tokenize", len(which))) for use, which in by_use.items()}
    for use, which in rows.items():
        too_many = which.rows_untrained > MOST_UNTRAINED * len(by_use[use])
        if too_many and (use == "train" or not len(which)):
            raise InputError(which.why_untrained)
    if not len(rows["train"]):
        raise InputError(f"{task.plan.data.train}: nothing is left to learn from.")
    validation, held_out = (_read(by_use[use], rows[use]) for use in ("validation", "held_out"))
    for use, scored in (("validation", validation), ("held_out", held_out)):
        together = scored.drawn_together()
        if (pieces := rows[use].groups) is not None:  # of texts
            together = numbered(pieces if together is None else [together[text] for text in pieces])
        rows[use] = replace(rows[use], groups=together)
    return rows, replace(parts, train=parts.train.spent(), validation=validation, held_out=held_out)


def _read(rows: Rows, encoded: Encoded) -> Rows:
    """Those of the rows that the model reads."""
    if not encoded.untrained:
        return rows
    return rows.take([i for i, number in enumerate(rows.numbers) if number not in encoded.untrained])


def tell_losses(task: Task, rows: dict[str, Encoded], counts: Mapping[str, int], tell: Narrator) -> None:
    """Warn of what the rows lost on the way into the model, of a split that flatters, and of what the task has to say."""
    for code, text in task.remarks.items():
        tell.warn(code, text)
    if counts.get("torn"):
        tell.warn("torn", TORN)
    if counts.get("seen"):
        tell.warn("seen_held_out", seen_in_words(counts["seen"]))
    if counts.get("groups_seen"):
        tell.warn("groups_seen", GROUPS_SEEN.format(n=counts["groups_seen"]))
    for use, which in rows.items():
        for said in in_words(use, which, task.plan.max_length):  # one by one: views leave out what stands under `left_out`
            tell.warn("rows_cut", said, use=use, **lost(which))


def seen_in_words(n: int) -> str:
    """That rows share with held-out rows what the split of a file would have kept on one side."""
    return f"{SEEN[0] if n == 1 else SEEN[1].format(n=n)} They are learned, so scores may be better than on what is new."


def in_words(use: str, rows: Encoded, max_length: int) -> list[str]:
    """What truncation took from rows, in sentences; none where it took nothing."""
    said, what = [], USES[use]
    all_rows, cut, tokens, most = len(rows) + rows.rows_untrained, rows.rows_cut, rows.tokens_cut, max_length
    if cut == 1:
        said.append(f"One of {all_rows:,} {what} rows is longer than {most} tokens and was cut ({tokens:,} tokens lost).")
    elif cut:
        said.append(f"{cut:,} of {all_rows:,} {what} rows are longer than {most} tokens and were cut ({tokens:,} tokens lost).")
    if rows.rows_untrained == 1:
        said.append(f"One of the {what} rows had nothing left to learn and was left out.")
    elif rows.rows_untrained:
        said.append(f"{rows.rows_untrained:,} {what} rows had nothing left to learn and were left out.")
    return said


LEFT_OUT = {
    "empty": (
        "One row of the training file had nothing to read, or nothing to learn, and was left out.",
        "{n:,} rows of the training file had nothing to read, or nothing to learn, and were left out.",
    ),
    "duplicates": ("One row repeats another one and was left out.", "{n:,} rows repeat another one and were left out."),
    "conflicts": (
        "One row whose text also appears with another label was left out.",
        "{n:,} rows whose text also appears with another label were left out.",
    ),
    "unasked": (
        "One conversation begins with the assistant; what it says before the first question was left out.",
        "{n:,} conversations begin with the assistant; what it says before the first question was left out.",
    ),
    "unlearned": (
        "One answer of weight 0 (or train: false) was read and not learned.",
        "{n:,} answers of weight 0 (or train: false) were read and not learned.",
    ),
    "eval_empty": (
        "One row of the held-out file had nothing to read, or nothing to learn, and was left out.",
        "{n:,} rows of the held-out file had nothing to read, or nothing to learn, and were left out.",
    ),
    "overlap": (
        "One training row is also among the held-out ones, punctuation aside, and was left out of the training.",
        "{n:,} training rows are also among the held-out ones, punctuation aside, and were left out of the training.",
    ),
}
"""What the rows of a file did not come to, by its count: of one row, and of more."""


def losses(counts: dict[str, int], rows: dict[str, Encoded], max_length: int) -> dict[str, Any]:
    """What was in the files and is not in the run, for the report: numbers by use (`lost`) and sentences (`left_out`)."""
    found = [(counts[name], *words) for name, words in LEFT_OUT.items() if counts.get(name)]
    said = [(one if n == 1 else many).format(n=n) for n, one, many in found]
    said += [sentence for use, which in rows.items() for sentence in in_words(use, which, max_length)]
    return {"lost": {use: lost(which) for use, which in rows.items()}, "left_out": said}


def lost(rows: Encoded) -> dict[str, int]:
    """What truncation took from rows."""
    return {name: getattr(rows, name) for name in ("rows_cut", "tokens_cut", "rows_untrained")}
