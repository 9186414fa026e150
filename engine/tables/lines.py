"""Plain text, texts behind their labels (fastText), and tagged tokens (CoNLL), whose rows are several lines of a file."""

import re
from collections.abc import Iterator
from functools import partial
from itertools import takewhile

from engine.tables.bounds import LONGEST_TEXT, check_width
from engine.tables.cells import OF_TAGGED, TAGS, WORDS
from engine.tables.encoding import TextFile
from engine.tables.source import Row, Source, Told, of_rows
from recommender.errors import InputError

_TAG = re.compile(rb"O|[BIESLUM]-\S+")
LABEL = "__label__"
"""What fastText writes before a label, at the beginning of the text."""
_ENDED = re.compile(r"(.*\S)@([^\W\d_]{2,30})")
"""Directly behind the text: with a space before it, it is whom a text is for or from."""
_LEAST_LINES = 20
"""From which on words that repeat are told from chance."""
_UNIVERSAL = 10
"""Columns of a CoNLL-U file: id, form, lemma, universal part of speech, ..."""
_UNIVERSAL_LINE = re.compile(r"\d+([-.]\d+)?\t[^\t]+\t[^\t]+\t[A-Z_]+(\t[^\t]+){2}\t(\d+|_)(\t[^\t]+){3}")


def open_plain(file: TextFile) -> Source:
    """Raw text: a row a paragraph where blank lines part paragraphs, else a row a line; one column, `text`."""
    return of_rows(file.path, "text", ("text",), partial(_texts, file, not _has_paragraphs(file)), file.encoding)


def _has_paragraphs(file: TextFile) -> bool:
    """Whether there is a blank line between lines of text."""
    text = blank = False
    for line in file.lines():
        if not line.strip():
            blank = text
        elif blank:
            return True
        else:
            text = True
    return False


def _texts(file: TextFile, by_line: bool, told: Told) -> Iterator[Row]:
    paragraph: list[bytes] = []
    length = 0
    for number, line in enumerate(_and_a_blank(file.lines(told)), 1):
        if line.strip():
            paragraph.append(line)
            length += len(line)
            if length > LONGEST_TEXT:
                raise InputError(f"{file.path}:{number}: a paragraph of over {LONGEST_TEXT:,} bytes; split it with blank lines.")
        if paragraph and (by_line or not line.strip()):
            yield (b"\n".join(paragraph).decode("utf-8"),), length
            paragraph, length = [], 0


def _and_a_blank(lines: Iterator[bytes]) -> Iterator[bytes]:
    yield from lines
    yield b""


def open_marked(file: TextFile) -> Source:
    """Texts behind their labels, as fastText reads them, a line each: columns `text` and `label`.

    Where some have several labels, each has a list of them; else a line without any is a row without a label.
    """
    mark = LABEL.encode()
    begins = (line.split(maxsplit=2)[:2] for line in file.lines())
    several = any(len(words) == 2 and all(word.startswith(mark) for word in words) for words in begins)
    return _labelled(file, "fasttext", several=several)


def open_ended(file: TextFile) -> Source:
    """Texts before their label, parted by the last `@` of a line, as the Financial PhraseBank has them: `text` and `label`."""
    return _labelled(file, "txt", several=False)


def _labelled(file: TextFile, kind: str, *, several: bool) -> Source:
    return of_rows(file.path, kind, ("text", "label"), partial(_marked, file, kind, several), file.encoding)


def looks_ended(head: str) -> bool:
    """Whether every line ends with `@` and one of a few words."""
    lines = [line for line in head.split("\n")[:-1] if line.strip()]
    ends = [found[2] for line in lines if (found := _ENDED.fullmatch(line.rstrip())) is not None]
    return len(ends) >= _LEAST_LINES and len(ends) == len(lines) and 1 < len(set(ends)) <= len(ends) / 5


def _before(line: str) -> tuple[str, list[str]]:
    words = line.split()
    marks = list(takewhile(lambda word: word.startswith(LABEL), words))
    return " ".join(words[len(marks) :]), [mark.removeprefix(LABEL) for mark in marks]


def _behind(line: str) -> tuple[str, list[str]]:
    found = _ENDED.fullmatch(line.strip())
    return (line.strip(), []) if found is None else (found[1], [found[2]])


def _marked(file: TextFile, kind: str, several: bool, told: Told) -> Iterator[Row]:
    part = _before if kind == "fasttext" else _behind
    for line in file.lines(told):
        if line.strip():
            text, marks = part(line.decode("utf-8"))
            yield (text, marks if several else next(iter(marks), None)), len(line)


def looks_tagged(head: str) -> bool:
    """Whether lines hold a token and its tag (`EU B-ORG`), and blank lines part sentences."""
    lines = head.encode().split(b"\n")[:-1] or [head.encode()]
    tokens = [line.split() for line in lines if line.strip() and not line.startswith((b"-DOCSTART-", b"#\t"))]
    parted = any(not line.strip() for line in lines[:-1])
    if len(tokens) < 3 or not parted:
        return False
    fit = sum(len(t) == len(tokens[0]) >= 2 and _TAG.fullmatch(t[-1]) is not None for t in tokens)
    return fit >= 0.95 * len(tokens)


def looks_universal(head: str) -> bool:
    """Whether lines hold a word in the ten columns of CoNLL-U: its number, its kind in capitals, the number of its head."""
    lines = [line.rstrip("\r") for line in head.split("\n")[:40][:-1] if line.strip() and not line.startswith("#")]
    return len(lines) > 2 and all(map(_UNIVERSAL_LINE.fullmatch, lines))


def _are_numbered(head: str) -> bool:
    """Whether each line of three columns or more begins with the number of its word in the sentence."""
    lines = [line.split() for line in head.split("\n")[:200][:-1] if not line.startswith("#")]
    at = 0
    for fields in lines:
        at = at + 1 if fields else 0
        if fields and (len(fields) < 3 or fields[0] != str(at)):
            return False
    return len(lines) > 2


def open_tagged(file: TextFile) -> Source:
    """Tokens with a tag each, a line a token, sentences parted by blank lines: columns `tokens` and `tags`.

    The token is the first column and the tag the last; in CoNLL-U they are the word form and its part of speech.
    """
    return of_rows(file.path, "conll", OF_TAGGED, partial(_sentences, file), file.encoding)


def _is_aside(text: str, *, universal: bool, numbered: bool) -> bool:
    """Whether a line belongs to no sentence: where documents begin, comments, where a sentence is from (GermEval)."""
    if text.startswith("#\t"):
        return numbered
    return text.startswith("-DOCSTART-") or (text.startswith("#") and "\t" not in text and (universal or text[1:2] == " "))


def _are_names(fields: list[str]) -> bool:
    """Whether a first line names the columns."""
    return len(fields) > 1 and fields[0] in WORDS and fields[-1] in TAGS


def _unnumbered(fields: list[str], place: str) -> list[str]:
    """Without the number of the word.

    Raises:
        InputError: nothing but a word and two tags is left (GermEval's, of which the inner ones stand last).
    """
    if len(fields) == 4 and all(_TAG.fullmatch(field.encode()) for field in fields[2:]):
        raise InputError(f"{place}: holds two tags per word; keep the column of those to be learned.")
    return fields[1:]


def _sentences(file: TextFile, told: Told) -> Iterator[Row]:
    head = file.head(8 << 10)
    numbered = _are_numbered(head)
    universal = looks_universal(head) or file.path.name.lower().removesuffix(".gz").endswith(".conllu")
    ten = begun = False
    tokens: list[str] = []
    marks: list[str] = []
    for number, line in enumerate(_and_a_blank(file.lines(told)), 1):
        if not line.strip():
            if tokens:
                yield (tokens, marks), 0
                tokens, marks = [], []
            continue
        text = line.decode("utf-8")
        if _is_aside(text, universal=universal, numbered=numbered) or (not begun and _are_names(text.lower().split())):
            continue
        fields = text.rstrip().split("\t") if "\t" in text.strip() else text.split()
        if len(fields) < 2:
            raise InputError(
                f"{file.path}:{number}: has no tag; a line holds a token and its tag, separated by a tab or a space."
            )
        check_width(f"{file.path}:{number}", len(fields))
        ten |= universal and len(fields) == _UNIVERSAL
        if ten and len(fields) != _UNIVERSAL:
            raise InputError(f"{file.path}:{number}: has {len(fields)} columns where CoNLL-U has {_UNIVERSAL}; fix the line.")
        if ten:
            if not fields[0].isdigit():  # 3-4 spans several words, 5.1 stands for one that is left out
                continue
            fields = [fields[1], fields[3]]
        elif numbered and len(fields) > 2:
            fields = _unnumbered(fields, f"{file.path}:{number}")
        tokens.append(fields[0])
        marks.append(fields[-1])
        begun = True
    if not begun:
        raise InputError(f"{file.path} holds no tagged tokens.")
