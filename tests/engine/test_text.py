"""Foreign text on its way to a screen."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text import MAX_COMBINING, clean, json_line, one_line


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("\x1b[31mred\x1b]52;c;aGk=\x07", "\\x1b[31mred\\x1b]52;c;aGk=\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\x00b\x7f", "a\\x00b\\x7f"),
        ("invoice\u202egpj.exe", "invoice\\u202egpj.exe"),
        ("\u2066a\u2069\u061c", "\\u2066a\\u2069\\u061c"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("lone \ud800 surrogate", "lone \\ud800 surrogate"),
        ("line\u2028break", "line\\u2028break"),
        ("harmless\rline", "harmlessline"),
    ],
)
def test_characters_that_command_a_terminal_are_written_out(foreign: str, shown: str) -> None:
    assert clean(foreign) == shown


def test_ordinary_text_passes_unchanged() -> None:
    text = "Grüße, 你好, שלום, हिन्दी, 👩‍👩‍👧\n\ttab"
    assert clean(text) == text


def test_markup_is_left_to_the_widgets() -> None:
    assert clean("[red]5[/red]") == "[red]5[/red]"


def test_walls_of_marks_are_cut_down() -> None:
    wall = "a" + "\u0301" * 500 + "\u20dd" * 500
    assert len(clean(wall)) == 1 + MAX_COMBINING


def test_long_text_is_cut_and_says_so() -> None:
    assert clean("x" * 100, limit=10) == "x" * 10 + "…"


def test_one_line_folds_white_space_and_caps_the_length() -> None:
    assert one_line(" a\n\n b\t c ") == "a b c"
    assert len(one_line("word " * 1000, 50)) == 50


@pytest.mark.parametrize("text", ["\x1b]0;hi\x07", "a\x9b2J", "\u202eabc\u2066", "\U000e0041", "\ud800", "café 标签 \"x\"\n"])
def test_json_is_the_same_and_no_terminal_obeys_it(text: str) -> None:
    line = json_line({text: [text]})
    assert json.loads(line) == {text: [text]}
    assert clean(line) == line
    assert "标签" in json_line("标签")


def test_anything_can_be_shown() -> None:
    assert clean(None) == "None"
    assert clean(ValueError("\x1b")) == "\\x1b"


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_nothing_dangerous_survives(text: str) -> None:
    for character in clean(text):
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    clean(text).encode("utf-8")
