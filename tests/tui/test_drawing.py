"""Curves and bars made of characters."""

import pytest

from tui.widgets import bars
from tui.widgets.raster import curve, scale_of, thin_out


def test_a_falling_curve_starts_high_and_ends_low() -> None:
    points = [(float(i), 10.0 - i) for i in range(10)]
    scale = scale_of((points,))
    assert scale is not None
    rows = curve(points, 20, 5, scale, braille=False)
    assert rows[0][0] == "*"
    assert rows[-1][-1] == "*"
    assert rows[0][-1] == " "


def test_ascii_curves_hold_no_braille_and_braille_ones_do() -> None:
    points = [(0.0, 1.0), (5.0, 0.0)]
    scale = scale_of((points,))
    assert scale is not None
    plain = "".join("".join(r) for r in curve(points, 10, 4, scale, braille=False))
    dots = "".join("".join(r) for r in curve(points, 10, 4, scale, braille=True))
    assert plain.isascii()
    assert any(0x2800 < ord(c) <= 0x28FF for c in dots)


def test_ten_thousand_points_thin_out_to_the_columns_there_are() -> None:
    points = [(float(i), float(i % 2)) for i in range(10_000)]
    scale = scale_of((points,))
    assert scale is not None
    means = thin_out(points, 50, scale)
    assert len(means) == 50
    assert all(m is not None and 0.4 < m < 0.6 for m in means[1:-1])


def test_no_points_is_no_plane_and_one_point_is_one() -> None:
    assert scale_of(((), ())) is None
    scale = scale_of((((3.0, 0.5),), ()))
    assert scale is not None
    assert sum(c != " " for row in curve([(3.0, 0.5)], 8, 4, scale, braille=True) for c in row) == 1


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
    assert len(bars.candidate_bar({}, 0, 0, 10).plain) == 10
