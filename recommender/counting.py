"""Counts the rules rest on: rows, labels, tokens, and the split of the rows."""

import math
from typing import NamedTuple

from recommender.facts import CLASSIFYING, DataFacts, Facts, Goal, Task, Truncation
from recommender.shape import shape_of

UNKNOWN_ROWS = 1_000
"""Assumed where no rows were counted."""
VALIDATION_SHARE = 0.15
"""Of the rows left after the held-out ones, below 5,000 rows; a tenth above, never more than 2,000 rows."""
SMALL_FOR_ONE_SPLIT = 500
"""Below so many rows one split says little: five folds."""


RARE_ON_VALIDATION = 30
"""Rows of the rarer of two classes among the validation rows, or no checkpoint can be told from another by it (K)."""
MOST_VALIDATION = 20_000
MOST_UNTRAINED = 0.1
"""Share of the training rows from which nothing would be learned, beyond which a run would be wasted on the wrong setting."""


class Split(NamedTuple):
    """Rows by use."""

    train: int
    validation: int
    held_out: int
    """Carved from the data; 0 when a held-out file was given."""


def split_of(data: DataFacts) -> Split:
    """How many rows serve for what in one run (docs/method-guide.md, section 5)."""
    unique = counted_rows(data)
    held_out = 0
    if data.eval_rows is None:
        held_out = int(unique * 0.15) if unique < 5_000 else min(unique // 10, 10_000)
    rest = unique - held_out
    validation = int(rest * VALIDATION_SHARE) if rest < 5_000 else min(rest // 10, 2_000)
    validation = max(validation, min(_seeing_the_rare(data, unique), rest // 10, MOST_VALIDATION))
    return Split(rest - validation, validation, held_out)


def scored_rows(data: DataFacts) -> int:
    """How many rows are scored in one go, at most; of raw text its tokens, because nobody knows the blocks."""
    if data.task == "continued_pretraining":
        return trained_tokens(data)
    split = split_of(data)
    return max(split.validation, split.held_out, data.eval_rows or 0)


def _seeing_the_rare(data: DataFacts, rows: int) -> int:
    """How many validation rows hold enough of a rare positive class."""
    counts = [c for c in data.label_counts or () if c]
    if len(counts) != 2 or (data.task or "classification") != "classification":
        return 0
    return round(RARE_ON_VALIDATION * sum(counts) / min(counts)) if rows else 0


def folds_of(data: DataFacts) -> int:
    """5 where the rows are too few for one split and nobody brought held-out rows, else 1."""
    if data.task == "continued_pretraining":  # whose rows are documents, of any length
        return 1
    few = data.eval_rows is None and rows_of(data) is not None and 50 <= distinct_rows(data) < SMALL_FOR_ONE_SPLIT
    return 5 if few else 1


def counted_rows(data: DataFacts) -> int:
    """Rows that remain once repeats, and those that are held out too, are left out: what is split and trained on."""
    left = once(data)
    shown = round((data.overlap_share or 0.0) * (data.eval_rows or 0))
    return max(left - shown, min(left, 1))


def once(data: DataFacts) -> int:
    """Rows without those that repeat another one. A text with two labels is two of them."""
    rows = rows_of(data)
    if rows is None:
        return UNKNOWN_ROWS
    if data.duplicate_share is not None:
        return round(rows * (1 - data.duplicate_share))
    return rows if data.unique_rows is None else min(data.unique_rows, rows)


def distinct_rows(data: DataFacts) -> int:
    """U: rows that say something new; a text that comes again with another label, or nearly so, does not."""
    texts = counted_rows(data)
    if data.unique_rows is not None:
        texts = min(texts, data.unique_rows)
    return max(texts - round((rows_of(data) or 0) * (data.near_duplicate_share or 0.0)), min(texts, 1))


def rows_of(data: DataFacts) -> int | None:
    """Rows as counted, or at least as many as other counts show; `None` when nothing was counted."""
    if data.rows is not None:
        return data.rows
    if data.unique_rows is not None:
        return data.unique_rows
    return sum(data.label_counts) if data.label_counts and data.task != "multi_label" else None


def task_of(facts: Facts) -> Task:
    """The task as named, or the likeliest: raw text if that is the goal, labels if there are any, else what the model does."""
    data = facts.data
    if data.task is not None:
        return data.task
    if facts.goal.continued_pretraining:
        return "continued_pretraining"
    if data.classes or data.label_counts:
        return "classification"
    if data.trained_tokens is not None:
        return "instruction"
    writes = shape_of(facts.model).family
    return {"encoder": "classification", "decoder": "instruction", "encoder-decoder": "seq2seq"}[writes]  # type: ignore[return-value]


def is_labelled(data: DataFacts) -> bool:
    """Whether a head on the model is trained, rather than the model's own writing."""
    return (data.task or "classification") in CLASSIFYING


def answers_behind(data: DataFacts, length: int) -> Truncation | None:
    """What a cut at `length` tokens loses, where the answers of too many rows begin behind it; `None` where they do not, or where
    the model's own tokenizer has not counted: then it is left to the worker, which has it.

    Between counted lengths at least so many begin behind as behind the next longer one.
    """
    cut = min((c for c in data.truncation if c.length >= length), key=lambda c: c.length, default=None)
    if cut is None or not data.rows or data.tokens_origin == "assumed":
        return None
    by_chance = 3 * math.sqrt(MOST_UNTRAINED * (1 - MOST_UNTRAINED) / data.rows)  # which of them are trained on is drawn
    return cut if cut.rows_untrained > (MOST_UNTRAINED + by_chance) * data.rows else None


def trained_tokens(data: DataFacts) -> int:
    """T: labels that carry loss in one epoch. A classified row carries one."""
    if is_labelled(data):
        return counted_rows(data)
    if data.trained_tokens is not None:
        return data.trained_tokens
    return data.tokens_total if data.tokens_total is not None else counted_rows(data) * (data.tokens_p50 or 128)


LIKE_PRETRAINING_ROWS = 50_000
"""From so many rows of code or of a new domain on, formatted or not, tuning resembles pre-training (E5: 100,000 pairs)."""


def examples_of(data: DataFacts, length: int) -> int:
    """U, or of raw text the blocks of `length` tokens that it makes: a book is one row and thousands of them."""
    if data.task != "continued_pretraining":
        return distinct_rows(data)
    return math.ceil(trained_tokens(data) / max(length, 1))


def like_pretraining(data: DataFacts, goal: Goal) -> bool:
    """Whether raw text is learned, or so much text of a new domain or of code that it resembles pre-training."""
    if is_labelled(data):
        return False
    raw = data.task == "continued_pretraining" or goal.continued_pretraining
    return raw or (goal.purpose in ("domain", "code") and distinct_rows(data) >= LIKE_PRETRAINING_ROWS)


def classes_of(data: DataFacts) -> int | None:
    """Classes that really occur."""
    if data.label_counts:
        return sum(1 for count in data.label_counts if count)
    return data.classes


def smallest_class(data: DataFacts) -> int | None:
    """m: rows of the smallest class that occurs, at most; `None` where rows have no classes, or they were not counted."""
    if (data.task or "classification") not in ("classification", "multi_label"):
        return None
    counts = [c for c in data.label_counts or () if c]
    if counts:
        rows, distinct = rows_of(data) or 0, distinct_rows(data)
        # counted before repeats left
        return round(min(counts) * distinct / rows) if distinct < rows == sum(counts) else min(counts)
    return distinct_rows(data) // data.classes if data.classes and rows_of(data) is not None else None


def skewed(data: DataFacts) -> bool:
    """Whether one class holds over 80% of the rows, or ten times as many as the smallest (E27).

    Token tags are not meant: most tokens carry no tag in any sound data set.
    """
    if (data.task or "classification") not in ("classification", "multi_label"):
        return False
    counts = [c for c in data.label_counts or () if c]
    if len(counts) < 2:
        return False
    return max(counts) > 10 * min(counts) or (data.task != "multi_label" and max(counts) > 0.8 * sum(counts))
