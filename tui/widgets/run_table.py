"""A table that is written again and again: only what changed, so that neither cursor nor scrolling jump."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text
from textual.coordinate import Coordinate
from textual.widgets import DataTable


class RunTable(DataTable[Text]):
    """Lines with a key each, the cursor on one of them."""

    def show(self, heads: Sequence[str], lines: Mapping[str, Sequence[Text]]) -> None:
        """Take these lines. The cursor stays on its line; where that is gone, on its place."""
        cells = list(lines.values())
        columns = zip(heads, *cells, strict=True)
        widths = [max(cell_len(head), *(text.cell_len for text in texts), 0) for head, *texts in columns]
        before = [row.key.value for row in self.ordered_rows]
        if list(lines) == before and self.columns:
            self._write(cells, widths)
            return
        chosen, scrolled = self.cursor_row, self.scroll_y
        self.clear(columns=True)  # lines cannot be put between others
        for head, width in zip(heads, widths, strict=True):
            self.add_column(head, width=width)
        for key, row in lines.items():
            self.add_row(*row, key=key)
        keys, on = list(lines), before[chosen] if 0 <= chosen < len(before) else None
        at = keys.index(on) if on is not None and on in lines else max(min(chosen, len(keys) - 1), 0)
        self.move_cursor(row=at)
        self.call_after_refresh(self.scroll_to, y=scrolled + at - chosen, animate=False)

    def _write(self, cells: list[Sequence[Text]], widths: list[int]) -> None:
        columns = self.ordered_columns
        resized = [column.width for column in columns] != widths
        for column, width in zip(columns, widths, strict=True):
            column.width = width
        for y, row in enumerate(cells):
            for x, cell in enumerate(row):
                if self.get_cell_at(Coordinate(y, x)) != cell:
                    self.update_cell_at(Coordinate(y, x), cell)
        if resized and cells:  # it is laid out anew only for a cell that may be wider
            self.update_cell_at(Coordinate(0, 0), cells[0][0], update_width=True)
