"""Curves and bars made of characters."""

import math
import random

import pytest

from engine.series import Series
from tui.widgets import bars
from tui.widgets.loss_chart import Line
from tui.widgets.raster import Canvas, Gathered, Symbols, View, room_for, smoothed


def drawn(points: list[tuple[int, float]], width: int, height: int, symbols: Symbols = "braille", **more: float) -> list[str]:
    """A curve as rows of text."""
    series = series_of(points)
    values = [y for _, y in points]
    view = View(points[0][0], points[-1][0] + 1e-9, min(values), max(values) + 1e-9)
    canvas = Canvas(width, height, symbols)
    columns = Gathered().update(series.steps, series.losses, view, width * canvas.across)
    canvas.line(smoothed(columns, more.get("weight", 0.0)), view, 0)
    return ["".join(run.text for run in row) for row in canvas.rows()]


def series_of(points: list[tuple[int, float]]) -> Series:
    series = Series()
    for step, loss in points:
        series.add(step, loss, step * 10.0, step * 0.5)
    return series


def test_a_falling_curve_starts_high_and_ends_low() -> None:
    rows = drawn([(i, 10.0 - i) for i in range(10)], 20, 5, "ascii")
    assert rows[0][0] == "*"
    assert rows[-1][-1] == "*"
    assert rows[0][-1] == " "


@pytest.mark.parametrize(
    ("symbols", "used"), [("braille", "".join(map(chr, range(0x2801, 0x2900)))), ("block", "▀▄█"), ("ascii", "*")]
)
def test_each_kind_of_character_keeps_to_itself(symbols: Symbols, used: str) -> None:
    found = {c for row in drawn([(0, 1.0), (3, 0.4), (9, 0.0)], 10, 4, symbols) for c in row if c != " "}
    assert found
    assert found <= set(used)


def test_steps_that_share_a_column_are_averaged_and_their_extremes_kept() -> None:
    series = series_of([(i, float(i % 2)) for i in range(10_000)])
    columns = Gathered().update(series.steps, series.losses, View(0, 9_999, 0, 1), 50)
    assert all(c is not None and 0.4 < c.mean < 0.6 and (c.low, c.high) == (0.0, 1.0) for c in columns)


def test_a_growing_curve_is_gathered_as_if_it_had_always_been_there() -> None:
    noise = random.Random(0)
    points = [(i, noise.random()) for i in range(1, 3_001)]
    view, growing, series = View(1, 4_000, 0, 1), Gathered(), Series()
    for step, loss in points:
        series.add(step, loss, 0.0, 0.0)
        if step % 37 == 0:
            growing.update(series.steps, series.losses, view, 80, series.cuts)
    again = series_of(points)
    assert growing.update(series.steps, series.losses, view, 80, series.cuts) == Gathered().update(
        again.steps, again.losses, view, 80
    )


def test_what_a_resumed_run_did_again_is_drawn_anew() -> None:
    series, kept, view = series_of([(i, 1.0) for i in range(1, 101)]), Gathered(), View(1, 100, 0, 2)
    kept.update(series.steps, series.losses, view, 10, series.cuts)
    for step in range(50, 101):
        series.add(step, 2.0, 0.0, 0.0)
    columns = kept.update(series.steps, series.losses, view, 10, series.cuts)
    assert columns[-1] is not None
    assert columns[-1].mean == 2.0
    assert len(series) == 100


def test_smoothing_stays_near_a_curve_of_many_steps_and_calms_one_of_few() -> None:
    noise = random.Random(1)
    few = series_of([(i, noise.random()) for i in range(1, 101)])
    view = View(1, 100, 0, 1)
    calm = smoothed(Gathered().update(few.steps, few.losses, view, 100), 0.9)
    late = [v for v in calm[50:] if v is not None]
    assert max(late) - min(late) < 0.5
    many = series_of([(i, 1.0 if i <= 5_000 else 0.0) for i in range(1, 10_001)])
    followed = smoothed(Gathered().update(many.steps, many.losses, View(1, 10_000, 0, 1), 100), 0.9)
    assert followed[60] is not None
    assert followed[60] < 0.01


def test_a_logarithmic_view_gives_every_factor_the_same_height() -> None:
    view = View(0, 1, 0.01, 1.0, log=True)
    assert [view.row(v, 21) for v in (1.0, 0.1, 0.01, 0.0)] == [0, 10, 20, 20]
    assert view.at(10, 21) == pytest.approx(0.1)


@pytest.mark.parametrize("length", [1, 7, 100, 5_000, 99_999])
def test_the_axis_ends_a_little_beyond_the_curve(length: int) -> None:
    assert length <= room_for(length) <= max(1.25 * length, 1.0)


@pytest.mark.parametrize(("axis", "ends"), [("step", 100.0), ("tokens", math.inf), ("time", math.inf)])
def test_no_axis_runs_past_the_end_of_the_run(axis: str, ends: float) -> None:
    series = series_of([(i, 1.0) for i in range(1, 91)])
    assert Line(series, last=100.0).ends_at(axis) == ends  # while it goes on the tokens and seconds of its end are not known
    assert Line(series, last=90.0).ends_at(axis) == series.along(axis)[-1]
    assert Line(series).ends_at(axis) == math.inf


def test_a_memory_bar_is_as_wide_as_asked_and_shows_the_limit() -> None:
    parts = {"weights": 4, "optimizer": 8, "gradients": 4, "activations": 4}
    over = bars.candidate_bar(parts, predicted=22, available=11, width=24).plain
    assert len(over) == 24
    assert over.index("|") == pytest.approx(12, abs=1)
    assert over.startswith("WWW")
    assert "OOO" in over
    under = bars.candidate_bar(parts, predicted=11, available=22, width=24).plain
    assert under.endswith("|")


def test_a_memory_bar_survives_unknown_numbers() -> None:
    assert len(bars.gauge_bar(None, None, None, None, 10).plain) == 10
    assert bars.gauge_bar(370_000_000, 370_000_000, None, None, 10).plain == "·" * 10, "full, before anybody knew of what"
    assert len(bars.candidate_bar({}, 0, 0, 10).plain) == 10
