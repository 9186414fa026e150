"""What a merge that was killed between its last two renames has left is put in order by the next one."""

from pathlib import Path

import pytest

from engine.merging import merge
from engine.rundir import RunDirectory
from recommender.errors import InputError


def folder(path: Path, says: str) -> None:
    path.mkdir()
    (path / "loracle.json").write_text('{"merged": true}')
    (path / "weights").write_text(says)


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (["merged", ".merged.old"], "merged"),
        ([".merged.new", ".merged.old"], ".merged.new"),
        ([".merged.old"], ".merged.old"),
        (["merged"], "merged"),
    ],
)
def test_what_a_killed_merge_left_is_put_in_order(tmp_path: Path, left: list[str], kept: str) -> None:
    for name in left:
        folder(tmp_path / name, name)
    with pytest.raises(InputError, match="is not done"):  # which is found out after
        merge(RunDirectory(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]
    assert (tmp_path / "merged" / "weights").read_text() == kept


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_of_somebody_elses_beside_the_place_is_left_alone(tmp_path: Path, there: bool) -> None:
    if there:
        folder(tmp_path / "merged", "an earlier merge")
    (tmp_path / ".merged.old").mkdir()
    (tmp_path / ".merged.old" / "thesis.tex").touch()
    with pytest.raises(InputError, match="is not done"):
        merge(RunDirectory(tmp_path))
    assert (tmp_path / ".merged.old" / "thesis.tex").exists()
