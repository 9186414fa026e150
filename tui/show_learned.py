"""Rows as a model reads them, what it learns of them set apart in colour and in brackets."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from engine.text import clean

BRACKETS = ("⟦", "⟧")


def rows(shown: Mapping[str, Any], console: Console) -> None:
    """Each row: its numbers, then its text."""
    before, after = BRACKETS if console.encoding.lower().startswith("utf") else ("[[", "]]")
    console.print()
    console.print(Text.assemble(f"What is learned stands in {before}", ("brackets", "bold green"), after, style="dim"))
    if shown["plain_template"]:
        console.print(Text("The model has no chat template; a plain one is used, and saved with the result.", style="dim"))
    for row in shown["rows"]:
        console.print()
        part = f", {row['part']}" if row["part"] else ""
        console.print(Text(f"Row {row['row']}{part}: {row['tokens']} tokens, {row['trained']} learned", style="bold"))
        text = Text(overflow="fold")
        for piece, learned in row["pieces"]:
            text.append(f"{before}{clean(piece)}{after}" if learned else clean(piece), style="green" if learned else "")
        console.print(text)
