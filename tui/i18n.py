"""The language of the program: `_` marks every text that a person reads, and finds it in the reader's language.

Catalogues are `locale/LANGUAGE.po`, the format of gettext, read directly; English needs none. `LORACLE_LANG` names the
language, else the locale does. The sentences of the recommender go through the same catalogue (`recommender.language`); those of
the engine, which come written out, have one of their own, `locale/LANGUAGE.engine.po` (`error_words.py`).
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from recommender.language import said, use
from tui.line_breaks import between_signs

FOLDER = Path(__file__).parent / "locale"
_TRADITIONAL = ("tw", "hk", "mo", "hant")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def _(text: str) -> str:
    """`text` in the reader's language. What varies stands in braces and is filled in afterwards with `format`."""
    return said(text)


def plural(one: str, many: str, count: float) -> str:
    """The form for that count: of English its own two, of a language in the catalogue the one it has."""
    return said(one if count == 1 else many)


def languages() -> list[str]:
    """What the program speaks."""
    return ["en", *sorted(p.stem for p in FOLDER.glob("*.po") if "." not in p.stem)]


def chosen() -> str:
    """The language to speak: `LORACLE_LANG`, else that of the locale; English where the terminal cannot show another."""
    wanted = os.environ.get("LORACLE_LANG")
    if not wanted:
        encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
        if "utf" not in encoding.lower():
            return "en"
        wanted = next((v for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (v := os.environ.get(name))), "en")
    return nearest(wanted)


def nearest(wanted: str) -> str:
    """Of the languages there are, the one for a locale such as `zh_CN.UTF-8`; English for all others."""
    name = wanted.partition(".")[0].partition("@")[0].replace("-", "_")
    language, _sep, rest = name.lower().partition("_")
    for known in languages():
        if known.lower() == name.lower():
            return known
    if language == "zh" and not rest.startswith(_TRADITIONAL):
        return "zh_CN"
    return next((known for known in languages() if known.lower().partition("_")[0] == language and language != "zh"), "en")


def speak(language: str) -> None:
    """Speak that language from now on. Texts that are bound when a module is imported keep the language of that moment."""
    use(*({} if language == "en" else dict(catalogue(FOLDER / f"{name}.po")) for name in (language, f"{language}.engine")))
    if language.startswith("zh"):  # the app has it done in English too; --help imports no Rich
        between_signs()


def catalogue(file: Path) -> Iterator[tuple[str, str]]:
    """Pairs of text and translation in a .po file; untranslated, fuzzy and obsolete ones are left out."""
    for entry in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
        lines = [line for line in entry.splitlines() if line and not line.startswith("#~")]
        if any(line.startswith("#,") and "fuzzy" in line for line in lines):
            continue
        parts: dict[str, str] = {}
        key = ""
        for line in lines:
            if line.startswith("#"):
                continue
            if not line.startswith('"'):
                key = line.partition(" ")[0]
                parts[key] = ""
            parts[key] += "".join(_unescaped(text) for text in _QUOTED.findall(line))
        translated = parts.get("msgstr") or parts.get("msgstr[0]")
        if parts.get("msgid") and translated:
            yield parts["msgid"], translated
            if "msgid_plural" in parts:
                yield parts["msgid_plural"], translated


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), text)
