"""The text of a JSON file: parsed value by value as it is read, with the place of what is wrong."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, NoReturn

from recommender.errors import InputError

_BLANK = " \t\r\n"


class Twice(ValueError):
    """An object has one field with two values, of which Python's reader would keep the last without a word."""

    line: int | None = None


def _once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    if len(found) < len(fields):
        for name, value in fields:
            if found[name] != value:
                raise Twice(name)
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def no_json(place: str, error: json.JSONDecodeError) -> InputError:
    """What to say of a text that is no JSON at that place, with the cure for what is often met."""
    rest = error.doc[error.pos : error.pos + 5]
    cure = ""
    if "trailing comma" in error.msg or (rest[:1] in ("]", "}") and error.doc[: error.pos].rstrip().endswith(",")):
        cure = " Remove the comma before the bracket."
    elif rest.startswith(("'", "True", "False", "None")):
        cure = " Python prints objects like this; write them with json.dumps."
    elif rest.startswith(("//", "/*", "#")):
        cure = " Remove the comments."
    why = error.msg.removesuffix(" at").removesuffix(" starting")  # "Unterminated string starting at"
    return InputError(f"{place}: not JSON ({why}, column {error.colno}).{cure}")


class Growing:
    """A text that is read on as it is needed, and forgotten once it was looked at."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        self._at = 0
        self._lines = 0
        """Ends of lines before `_text`."""
        self._column = 0
        """Characters of the current line before `_text`."""
        self._scan = DECODER.raw_decode

    def _more(self, least: int = 1) -> bool:
        """Read on; whether there was anything."""
        gone, self._text = self._text[: self._at], self._text[self._at :]
        self._at = 0
        lines = gone.count("\n")
        self._column = len(gone) - gone.rfind("\n") - 1 if lines else self._column + len(gone)
        self._lines += lines
        parts = [self._text]
        length = 0
        while length < least:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(self._decode(chunk))
            length += len(chunk)
        self._text = "".join(parts)
        return length > 0

    def skip(self) -> None:
        """Pass over white space."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return

    def peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def take(self, character: str) -> None:
        if self.peek() != character:
            self.fail(f"Expecting '{character}'")
        self._at += 1

    def value(self) -> tuple[Any, int]:
        """The value that begins here, and its length."""
        while True:
            start = self._at
            try:
                found, end = self._scan(self._text, start)
            except json.JSONDecodeError as error:
                if self._more(len(self._text)):
                    continue
                self._at = error.pos - start  # `_more` forgot what came before
                self.fail(error.msg)
            except Twice as error:
                error.line = self._lines + self._text.count("\n", 0, start) + 1
                raise
            # A number that ends with what was read so far may go on.
            if end == len(self._text):
                if self._more():
                    continue
                start, end = 0, end - start
            self._at = end
            return found, end - start

    def fail(self, message: str) -> NoReturn:
        """Raise, with the place in the whole file."""
        gone = self._text[: self._at]
        error = json.JSONDecodeError(message, self._text, self._at)
        error.lineno = self._lines + gone.count("\n") + 1
        error.colno = error.colno if "\n" in gone else self._column + self._at + 1
        raise error
