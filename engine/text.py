"""Foreign text made safe to show.

Text from data, models, file names and error messages may carry terminal escapes, bidi overrides or walls of combining
marks. Neither Rich nor Textual neutralises them, so everything foreign passes `clean` first.
"""

import json
import re
import unicodedata

MAX_LENGTH = 10_000
MAX_COMBINING = 4
"""Combining marks kept on one character; real scripts need two or three."""

# C0 without tab and newline, DEL, C1, bidi controls, invisible characters and tags that hide text, line separators,
# surrogates. Joiners (U+200C, U+200D) stay: scripts and emoji need them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def clean(text: object, limit: int = MAX_LENGTH) -> str:
    """`text` with control, bidi and surrogate characters written out (`\\x1b`) and its length capped.

    Newlines and tabs are kept; use `one_line` where there is one line only.
    """
    raw = str(text)
    cut = len(raw) > limit
    safe = _UNSAFE.sub(_written_out, raw[:limit])
    if not safe.isascii():
        safe = _fewer_marks(safe)
    return safe + "…" if cut else safe


def one_line(text: object, limit: int = 200) -> str:
    """`clean` text on a single line, white space folded, cut at `limit` characters."""
    folded = " ".join(clean(text, 4 * limit).split())
    return folded if len(folded) <= limit else folded[: limit - 1] + "…"


def is_unicode(name: str) -> bool:
    """Whether `name` can be written into a file of UTF-8. Names of files are bytes, which need not be text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_line(content: object) -> str:
    """One line of JSON that any language can be read in, with escapes for what `clean` writes out: terminals obey that too."""
    return _UNSAFE.sub(lambda match: json.dumps(match.group())[1:-1], json.dumps(content, ensure_ascii=False))


def first_line(error: BaseException) -> str:
    """What an error says in its first line, and in the next one where that names it; its kind where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0]} {lines[1].strip()}" if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def _written_out(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == 0x0D:
        return ""
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _fewer_marks(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= MAX_COMBINING:
            kept.append(character)
    return "".join(kept)
