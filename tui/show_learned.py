"""Rows as a model reads them, what it learns of them set apart in colour and in brackets."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from engine.text import clean
from tui.i18n import _
from tui.words import number

BRACKETS = ("⟦", "⟧")


def rows(shown: Mapping[str, Any], console: Console) -> None:
    """Each row: its numbers, then its text."""
    before, after = BRACKETS if console.encoding.lower().startswith("utf") else ("[[", "]]")
    console.print()
    head = _("What is learned is shown in")
    console.print(Text.assemble(f"{head} {before}", (_("brackets"), "bold green"), after, style="dim"))
    if shown["plain_template"]:
        words = _("The model has no chat template; a plain one is used, and saved with the result.")
        console.print(Text(words, style="dim"))
    for row in shown["rows"]:
        console.print()
        if "refused" in row:
            words = _("{why} The run leaves such rows out, up to a tenth of all.")
            console.print(Text(words.format(why=clean(row["refused"])), style="bold yellow"))
            continue
        part = f", {_(row['part'])}" if row["part"] else ""
        words = _("Row {row}{part}: {tokens} tokens, {trained} learned")
        told = {name: number(row[name]) for name in ("row", "tokens", "trained")}
        console.print(Text(words.format(part=part, **told), style="bold"))
        text = Text(overflow="fold")
        for piece, learned in row["pieces"]:
            text.append(f"{before}{clean(piece)}{after}" if learned else clean(piece), style="green" if learned else "")
        console.print(text)
