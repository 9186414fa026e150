"""What should not be learned from: ids, constants, what gives the label away, numbers far from all others."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from engine.inspection.belonging import belonging
from engine.inspection.columns import LOOK_AT, Column, describe, is_called_id, label_score
from engine.inspection.counting import Looked
from engine.inspection.layouts import GROUP, Shape
from engine.inspection.misleading import with_commas
from engine.inspection.usual import CONTEXTS
from engine.tables.table import Table, as_text
from engine.text import one_line
from recommender.facts import Suspicion

LEAST_ROWS = 20
"""Below these nothing can be told."""
LEAK_PURITY = 0.98
"""Share of rows with a word, or a value, that have one and the same label."""
LEAK_COVER = 0.9
"""Share of a label's rows that hold the word."""
LEAST_TELLING = 10
"""Rows with the label, and without it, below which a word may be there, or not, by chance."""
LEAST_SHOWN = 0.2
"""Share of all rows that must hold such a word; a rare label may well have a word of its own."""
FAR = 10
"""Times the width of the middle half."""
MOST_RIVALS = 8
LEAST_TEXT = 30
"""Characters from which on a column beside the text counts as a text."""
TITLES = frozenset(
    "title subject headline heading betreff titel titre sujet asunto titulo título titolo oggetto 标题 主题".split()  # noqa: SIM905
)
"""What the short text above a longer one is called."""
USUAL_NAME = 2.0
"""Score from which on a column is called as labels usually are."""
SURE = 0.9
"""Confidence from which on a number has a name that numbers to be learned usually have."""
GRADES = ("star", "rating", "overall", "score", "grade")
LEAST_GRADES = 4
_ASKS = re.compile(
    r"(?:^|\n)\W{0,8}(?:human|user|instruction|question|prompter) ?:|\[INST\]|<\|(?:im_start\|>user|user|prompter)", re.IGNORECASE
)
_ANSWERS = re.compile(
    r"(?:\n\W{0,8}|#{2,3} ?)(?:assistant|response|answer|bot|gpt) ?:|\[/INST\]|<\|(?:im_start\|>)?assistant", re.IGNORECASE
)
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")
_MARK = re.compile(r"\w+|[^\w\s]+")
_READ_FIRST, _READ_LAST = 1_000, 500
"""Characters of a text in which a pattern is looked for."""
_SPOKEN_FIRST = 4_000


def suspicious(table: Table, columns: Sequence[Column], used: Sequence[str], label: str | None) -> list[Suspicion]:
    """Columns beside those that are used, from the first rows of a file."""
    found = []
    marks = [as_text(v).strip() for v in table.values(label)[:LOOK_AT]] if label is not None else []
    for column in columns:
        if column.name in used or column.kind != "value" or column.rows < LEAST_ROWS:
            continue
        if column.distinct == 1:
            found.append(Suspicion(column=column.name, why="constant", share=column.filled))
        elif _is_id(column) and not with_commas(table.values(column.name)[:LOOK_AT]):  # an amount, as most of the world writes it
            found.append(Suspicion(column=column.name, why="id", share=column.distinct / column.rows))
        elif marks:
            share = _told_by(table.values(column.name)[:LOOK_AT], marks)
            if share is not None:
                found.append(Suspicion(column=column.name, why="leak", share=share))
    return found


def _is_id(c: Column) -> bool:
    """Different in (nearly) every row, and either called an id or a single word or number without a fraction."""
    if c.distinct < 0.98 * c.rows:
        return False
    return is_called_id(c) or (c.spaced < 0.02 and c.fractions < 0.02 and c.mean_characters < 60)


def _told_by(values: Sequence[object], marks: Sequence[str]) -> float | None:
    """Share of rows whose label a column's value tells; `None` unless that is nearly all, and far more than by chance."""
    by_value: dict[str, Counter[str]] = defaultdict(Counter)
    for value, mark in zip(values, marks, strict=True):
        text = as_text(value).strip()
        if text and mark:
            by_value[text][mark] += 1
    rows = sum(c.total() for c in by_value.values())
    labels: Counter[str] = sum(by_value.values(), Counter())
    if rows < LEAST_ROWS or len(labels) < 2 or len(by_value) > 0.2 * rows:
        return None
    told = sum(max(c.values()) for c in by_value.values()) / rows
    usual = max(labels.values()) / rows
    return told if told >= LEAK_PURITY and (1 - told) < 0.2 * (1 - usual) else None


def rivals(columns: Sequence[Column], used: Sequence[str], label: str) -> list[Suspicion]:
    """Columns that were as good a guess as `label`: of few short values where it has no usual name, else with such a name too."""
    chosen = next((c for c in columns if c.name == label), None)
    if chosen is None:
        return []
    least = USUAL_NAME if label_score(chosen) >= USUAL_NAME else 0.8
    others = (c for c in columns if c.name not in used and c.kind == "value" and c.few and c.distinct > 1 and not _is_id(c))
    return [Suspicion(column=c.name, why="rival") for c in others if label_score(c) >= least][:MOST_RIVALS]


def other_texts(columns: Sequence[Column], used: Sequence[str], text: str) -> list[Suspicion]:
    """Columns of texts beside the one that is read, about as long or longer."""
    chosen = next((c for c in columns if c.name == text), None)
    if chosen is None:
        return []
    others = (c for c in columns if c.name not in used and c.prose and c.filled > 0.5 and c.distinct > 0.5 * c.rows)
    long = (c for c in others if c.mean_characters >= max(0.5 * chosen.mean_characters, LEAST_TEXT))
    return [Suspicion(column=c.name, why="text") for c in long][:MOST_RIVALS]


def titles(columns: Sequence[Column], used: Sequence[str]) -> list[Suspicion]:
    """Columns of short texts that stand above the one that is read, such as the subject of a message."""
    words = (c for c in columns if c.name not in used and c.kind == "value" and c.filled > 0.5 and c.spaced > 0.3)
    return [Suspicion(column=c.name, why="text") for c in words if c.called.strip() in TITLES]


def unread_texts(table: Table, columns: Sequence[Column], used: Sequence[str], answer: str) -> list[Suspicion]:
    """Columns of texts beside a question and its answer, about as long as that one or longer, and no copies of it; and what a
    question is about where it is written in pieces (HotpotQA)."""
    answers = [as_text(v).strip() for v in table.values(answer)[:_READ_FIRST]]
    found = other_texts(columns, used, answer)
    others = {s.column: [as_text(v) for v in table.values(s.column)[:_READ_FIRST]] for s in found}
    copies = {name for name, texts in others.items() if sum(map(str.__contains__, texts, answers)) > 0.5 * len(answers)}
    nested = [c.name for c in columns if c.kind != "value" and c.filled > 0.5 and c.called in CONTEXTS and c.name not in used]
    return [Suspicion(column=name, why="unread") for name in (*others, *nested) if name not in copies]


def in_order(name: str, labels: Sequence[str]) -> bool:
    """Whether the labels of that column are grades, such as 1 to 5 stars, which a number's task would take in their order."""
    if not all(map(_NUMBER.fullmatch, labels)):
        return False
    grades = sorted(map(float, labels))
    if not all(map(float.is_integer, grades)):
        return len(grades) >= LEAST_GRADES  # halves measure something, whatever it is called
    through = len(grades) >= LEAST_GRADES and grades == [grades[0] + i for i in range(len(grades))]
    return through and any(grade in name.lower() for grade in GRADES)


def is_spoken(texts: Sequence[str]) -> bool:
    """Whether nearly all raw texts are conversations written out, with both their speakers."""
    read = [text[:_SPOKEN_FIRST] for text in texts[:1_000]]
    return bool(read) and sum(bool(_ASKS.search(text) and _ANSWERS.search(text)) for text in read) >= 0.9 * len(read)


def far_off(numbers: Sequence[str]) -> float | None:
    """Share of numbers to be learned that lie far from all others; `None` where none does.

    Far is ten times the width of the middle half away from it: of normally distributed numbers none in any data set.
    """
    values = sorted(map(float, numbers))
    if len(values) < LEAST_ROWS:
        return None
    low, high = values[len(values) // 4], values[3 * len(values) // 4]
    far = sum(not low - FAR * (high - low) <= value <= high + FAR * (high - low) for value in values) if high > low else 0
    return far / len(values) if far else None


def leak_in_text(texts: Sequence[str], marks: Sequence[str]) -> tuple[str, float] | None:
    """A word or sign that gives the label of its rows away, of several the most frequent, and the share of rows that hold one;
    `None` when that is not the case.

    Such a word stands in nearly all texts of one label and in hardly any other, as "positive" does where a template
    has written the label into the text.
    """
    labels = Counter(marks)
    if len(texts) < LEAST_ROWS or len(labels) < 2 or len(labels) > 100:
        return None
    held: dict[str, Counter[str]] = defaultdict(Counter)
    bags = []
    for text, mark in zip(texts, marks, strict=True):
        bag = frozenset(_MARK.findall((text[:_READ_FIRST] + " " + text[_READ_FIRST:][-_READ_LAST:]).casefold()))
        bags.append(bag)
        for word in bag:
            held[word][mark] += 1
    telling: dict[str, int] = {}
    for word, counts in held.items():
        mark, n = counts.most_common(1)[0]
        others = len(bags) - labels[mark]  # where one label is on nearly all rows, so is every usual word
        pure = counts.total() - n <= (1 - LEAK_PURITY) * min(counts.total(), others)
        if pure and min(n, others) >= LEAST_TELLING and n >= LEAK_COVER * labels[mark]:
            telling[word] = n
    share = sum(not bag.isdisjoint(telling) for bag in bags) / len(bags)
    return (max(telling, key=lambda word: (telling[word], word)), share) if share >= LEAST_SHOWN else None


def suspicions(head: Table, shape: Shape, looked: Looked, named: dict[str, str]) -> list[Suspicion]:
    """All that is suspicious of rows of this shape; of columns in `named` the person has decided."""
    roles, named = shape.columns, {role: name for role, name in named.items() if role != GROUP}
    label = roles.get("label") if shape.task == "classification" else None
    read = [part for name in roles.values() for part in head.joined(name) or [name]]
    used = [name.partition(".")[0] for name in read] + read
    within = tuple(f"{name}." for name in roles.values())  # such as who speaks in an answer that is an object
    described = [c for c in describe(head) if not c.name.startswith(within)]
    group = None if GROUP in roles else belonging(head, described, used, roles)
    if group is not None:
        used.append(group.column)
    found = suspicious(head, described, used, label) + ([] if group is None else [group])
    if "text" not in named and "text_pair" not in roles and shape.layout in ("text_label", "text_labels", "text_number", "text"):
        found += other_texts(described, [*used, *(s.column for s in found)], roles["text"])
        found += titles(described, [*used, *(s.column for s in found)])
    answer = next((roles[role] for role in ("output", "completion", "target") if role in roles), None)
    if answer is not None and not named:
        found += unread_texts(head, described, [*used, *(s.column for s in found)], answer)
    guessed = shape.layout == "text_number" and shape.confidence < SURE  # a number, where a class may be meant
    if "label" not in named and (label or shape.task == "multi_label" or guessed) and "label" in roles:
        # What stands beside the text may be what is asked for: an answer that is one of a few.
        aside = [name for name in (*used, *(s.column for s in found)) if name != roles.get("text_pair")]
        found += rivals(described, aside, roles["label"])
    if label is not None and in_order(label, sorted(set(looked.targets))):
        found.append(Suspicion(column=label, why="ordered"))
    if shape.layout == "text" and is_spoken(looked.texts):
        found.append(Suspicion(column=roles["text"], why="spoken"))
    if label is not None:
        leak = leak_in_text(looked.texts, looked.targets)
        if leak is not None:
            found.append(Suspicion(column=roles["text"], why="leak", word=one_line(leak[0], 40), share=leak[1]))
    far = far_off(looked.targets) if shape.task == "regression" else None
    if far is not None:
        found.append(Suspicion(column=roles["label"], why="outliers", share=far))
    return found
