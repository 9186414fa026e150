"""Paths a person types."""

from pathlib import Path

import pytest

from tui import paths


def test_in_a_large_folder_tab_still_finds_what_begins_like_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "MOST", 20)
    for number in range(60):
        (tmp_path / f"part-{number}.csv").touch()
    (tmp_path / "words.conllu").touch()
    assert paths.completions(f"{tmp_path}/wo") == [f"{tmp_path}/words.conllu"]
    assert paths.completions(f"{tmp_path}/part-59") == [f"{tmp_path}/part-59.csv"]
