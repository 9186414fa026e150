"""The method guide says what the program does."""

import re
from pathlib import Path

import pytest

from recommender.evidence import POINT_RULES, SOURCES, PointRule

GUIDE = (Path(__file__).parents[2] / "docs" / "method-guide.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in GUIDE.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("rule", POINT_RULES, ids=lambda rule: rule.code)
def test_points_and_sources_are_those_of_the_table(rule: PointRule) -> None:
    (row,) = [r for r in ROWS if r[0] == rule.code.split("_")[0]]
    assert [float(cell.replace("−", "-")) for cell in row[1:4]] == [rule.points[m] for m in ("full", "lora", "qlora")]
    assert set(re.findall(r"E\d+|\bK\b", row[5])) == set(rule.sources)


def test_every_source_is_explained() -> None:
    explained = {r[0] for r in ROWS}
    cited = set(re.findall(r"\bE\d+\b", GUIDE))
    assert {name for name in SOURCES if name != "K"} | cited <= explained
