"""Tables without lines whose numbers are never cut: where they have no room side by side they stand one below the other."""

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

APART = 2
"""Cells between two columns."""


class _Headed(Table):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = sum(_least(column, console, options) + APART for column in self.columns) - APART
        if least <= options.max_width:
            yield from super().__rich_console__(console, options)
            return
        for name, *cells in zip(*(column.cells for column in self.columns), strict=True):
            if _text(name):
                yield _text(name)
            for column, cell in zip(self.columns[1:], cells, strict=True):
                if _text(cell):
                    head = _text(column.header)
                    yield Padding(Text(" " if head else "").join([head, _text(cell)]), (0, 0, 0, APART), expand=False)


def _least(column: Column, console: Console, options: ConsoleOptions) -> int:
    """Cells that a column needs so that nothing in it is cut."""
    texts = [_text(column.header), *map(_text, column.cells)]
    if column.no_wrap:
        return max(cell_len(text.plain) for text in texts)
    return max(Measurement.get(console, options, text).minimum for text in texts)


def _text(cell: object) -> Text:
    return cell if isinstance(cell, Text) else Text(str(cell))


def headed_table() -> Table:
    """A table without lines, its headings dim."""
    return _Headed(box=None, padding=(0, APART, 0, 0), pad_edge=False, header_style="dim")
