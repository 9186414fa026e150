"""The line that says how far something has come."""

import io

import pytest
from rich.cells import cell_len

from tui import progress
from tui.progress import ProgressLine, amount


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.0)


def test_a_terminal_sees_one_line_that_goes_away() -> None:
    stream = Terminal()
    with ProgressLine("Reading rows.csv", stream) as line:
        line(12_000, 600_000, "rows")
        line(700_000, 600_000, "rows")
    drawn = stream.getvalue()
    assert "Reading rows.csv: 12 000 of 600 000 rows" in drawn
    assert "\n" not in drawn
    last = drawn.rsplit("\r", 2)
    assert last[1].strip() == ""
    assert last[2] == ""


def test_a_line_of_wide_characters_goes_away_whole() -> None:
    stream = Terminal()
    with ProgressLine("正在读取 rows.csv", stream) as line:
        line(1, 2, "rows")
    shown, blanks = stream.getvalue().split("\r")[1:3]
    assert len(blanks) == cell_len(shown)


def test_a_file_sees_nothing() -> None:
    stream = io.StringIO()
    with ProgressLine("Reading", stream) as line:
        line(1, 2, "rows")
    assert stream.getvalue() == ""


def test_that_it_has_begun_is_told_once_and_where_nobody_looks_too() -> None:
    begun: list[None] = []
    with ProgressLine("Reading", io.StringIO(), begun=lambda: begun.append(None)) as line:
        assert not begun
        line(0, 2, "rows")
        line(1, 2, "rows")
    assert len(begun) == 1


def test_what_is_quick_needs_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 1000.0)
    stream = Terminal()
    with ProgressLine("Reading", stream) as line:
        line(1, 2, "rows")
    assert stream.getvalue() == ""


def test_amounts_read_well() -> None:
    assert amount(500, 2_000, "bytes") == "25%"
    assert amount(5_000_000, 0, "bytes") == "5 MB"
    assert amount(5, 0, "rows") == "5 rows"
    assert amount(5_000, 0, "texts to compare") == "comparing 5 000 texts with each other"
