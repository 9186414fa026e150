"""Rasa's training data (YAML, and the Markdown of older versions): examples listed under their intents, as texts and labels."""

import re
from collections.abc import Iterator
from functools import partial

from engine.tables.encoding import TextFile
from engine.tables.source import Row, Source, Told, of_rows
from recommender.errors import InputError

_INTENT = re.compile(r"(##|(?P<before>\s*)- +)\s*intent: *(?P<name>\S.*?)\s*")
_LOOKS = re.compile(r"(?:^|\n)(##\s*intent: *\S+\s*\n[-*] |[ \t]*- +intent: *\S.*\n(?:.*\n){0,5}?[ \t]*examples: *[|>])")
_KEY = re.compile(r"\s*(?P<name>\w+):( *[|>][-+\d]*)?\s*")
_ITEM = re.compile(r"(?P<before>\s*)[-*] +(?P<said>\S.*?)\s*")
_ENTITY = re.compile(r"\[([^\]]*)\](?:\([^)]*\)|\{[^}]*\})")
"""A word that is marked within an example: `[tomorrow](time)`."""


def looks_rasa(head: str) -> bool:
    """Whether an intent stands there and examples below it."""
    return _LOOKS.search(head.replace("\r", "")) is not None


def open_rasa(file: TextFile) -> Source:
    """Columns `text` and `label`, a row an example; of marked words the words, without their entities."""
    return of_rows(file.path, "rasa", ("text", "label"), partial(_examples, file), file.encoding)


def _examples(file: TextFile, told: Told) -> Iterator[Row]:
    intent, depth, are_examples = "", -1, False
    for number, raw in enumerate(file.lines(told), 1):
        line = raw.decode("utf-8")
        found, item = _INTENT.fullmatch(line), _ITEM.fullmatch(line)
        if found is not None:
            intent, depth = found["name"].strip("\"'"), -1 if found["before"] is None else len(found["before"])
            are_examples = depth < 0
        elif (line.startswith("#") and depth < 0) or (item is not None and len(item["before"]) <= depth):
            intent = ""  # another section: synonyms, lookup tables, steps of a story
        elif depth >= 0 and (key := _KEY.fullmatch(line)) is not None:
            are_examples = key["name"] == "examples"  # not an intent's entities in a story, or what is known about it
        elif item is not None and intent and are_examples:
            if item["said"].startswith("text:"):
                place = f"{file.path}:{number}"
                raise InputError(f"{place}: holds an example that has fields; write it as a line (`- a text`).")
            yield (_ENTITY.sub(r"\1", item["said"]), intent), len(line)
