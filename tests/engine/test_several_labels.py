"""Several labels in one value: how they are separated, and what each is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.inspection.several import separator_of, split
from tests.engine.made_files import looked, prose, write


@pytest.mark.parametrize(
    ("values", "name", "found"),
    [
        (["a|b", "a", "b|c", "c", "a|c"], "x", "|"),
        (["3,27", "1", "3", "27,1", "27"], "x", ","),
        (["['joy', 'fear']", "['joy']", "[]"], "x", "list"),
        (["Paris, France", "Rome, Italy", "Oslo, Norway"], "label", None),
        (["yes", "no", "yes"], "labels", None),
    ],
)
def test_several_labels_in_a_value(values: list[str], name: str, found: str | None) -> None:
    assert separator_of(values, name) == found


@pytest.mark.parametrize(
    ("value", "separator", "labels"),
    [
        ("a | b|a|", "|", ["a", "b"]),
        ("['joy', \"fear\"]", "list", ["joy", "fear"]),
        ('["Crime, law and justice", "sport"]', "list", ["Crime, law and justice", "sport"]),
        ("['arts, culture', 'women\\'s wear']", "list", ["arts, culture", "women's wear"]),
        ("[joy, fear]", "list", ["joy", "fear"]),
        ("['joy' 'fear'\n 'anger']", "list", ["joy", "fear", "anger"]),
        ("['arts, culture' \"women's wear\"]", "list", ["arts, culture", "women's wear"]),
        ("[3 27  1]", "list", ["3", "27", "1"]),
        ("('joy', 'fear')", "list", ["joy", "fear"]),
        ("[1.0, None, '']", "list", ["1"]),
        ("[]", "list", []),
    ],
)
def test_labels_are_parted_and_cleaned(value: str, separator: str, labels: list[str]) -> None:
    assert split(value, separator) == labels


@pytest.mark.parametrize("wrap", [repr, json.dumps, lambda row: repr(tuple(row)), lambda row: repr(set(row))])
def test_labels_with_commas_in_lists_written_out_stay_whole(tmp_path: Path, wrap: Callable[[Any], str]) -> None:
    names = ["Crime, law and justice", "arts, culture", "sport"]
    path = write(tmp_path, "a.csv", lambda i, r: [prose(r), wrap(names[: 1 + i % 3])], ["text", "labels"])
    facts = looked(path)
    assert (facts.task, sorted(facts.labels or ())) == ("multi_label", sorted(names))
