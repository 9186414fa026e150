"""Lines of Chinese end between signs; all others end as they do anyway."""

import re
from collections.abc import Callable

import pytest
from rich import _wrap
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from textual.content import Content

from tui import i18n
from tui.line_breaks import between_signs, pieces
from tui.run_log import LogLine
from tui.widgets import log_view

SAID = "按任意顺序填写：回车继续，esc 返回；以 bf16-mixed 训练 338 690 个参数（共 22.7 M）。离开时会保留您的回答。"


def by_rich(text: str, width: int) -> list[str]:
    return [line.plain for line in Text(text).wrap(Console(), width)]


def by_textual(text: str, width: int) -> list[str]:
    return [line.plain for line in Content(text).wrap(width)]


@pytest.mark.parametrize("wrapped", [by_rich, by_textual])
def test_lines_of_chinese_are_full_and_begin_with_no_full_stop(
    wrapped: Callable[[str, int], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("words", "chop_cells"):  # and its own again afterwards
        monkeypatch.setattr(_wrap, name, getattr(_wrap, name))
    monkeypatch.setattr(i18n, "use", lambda *catalogues: None)
    i18n.speak("zh_CN")
    for width in range(12, 60):
        lines = [line.rstrip() for line in wrapped(SAID, width)]
        assert "".join(lines).replace(" ", "") == SAID.replace(" ", "")
        assert not [line for line in lines if line[0] in "，。；：）" or line[-1] == "（"]
        longest = len("bf16-mixed") + 1
        assert any("338 690" in line for line in lines), "a number is whole"
        assert all(width - longest < cell_len(line) <= width for line in lines[:-1])


def test_a_line_of_the_log_is_broken_between_words() -> None:
    rows = log_view.wrapped(LogLine("", "MAE 0.749, Pearson 0.000, R² -0.190"), 16)
    assert [row.text for row in rows] == ["MAE 0.749,", "Pearson 0.000,", "R² -0.190"]


def test_a_number_keeps_its_unit_and_a_long_path_is_broken_between_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("words", "chop_cells"):
        monkeypatch.setattr(_wrap, name, getattr(_wrap, name))
    between_signs()
    assert [line.rstrip() for line in by_textual("22.7 M parameters, 1.3 MB", 24)] == ["22.7 M parameters,", "1.3 MB"]
    path = "/home/ada/runs/20261130-190059-sums-full/model"
    assert by_textual(f"in {path}", 44) == ["in", path.removesuffix("model"), "model"]
    assert by_textual(f"in {path}", 48) == ["in", path], "whole, to be copied, where a line has room for it"
    assert by_textual("中国", 1)
    assert by_textual("/" + "x" * 20, 10) == ["/" + "x" * 9, "x" * 10, "x"]


def test_other_texts_are_broken_at_spaces() -> None:
    text = '  Why it fits:  "22.7 (100%)", don’t stop…  ~/runs/a-b '
    assert [(a, b) for a, b, _ in pieces(text)] == [found.span() for found in re.finditer(r"\s*\S+\s*", text)]
