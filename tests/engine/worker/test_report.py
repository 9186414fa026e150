"""What the report keeps so that predictions can be judged."""

import pytest

from engine.worker.report import from_first_steps


def test_ten_steps_tell_how_long_all_take_by_their_tokens() -> None:
    """The first one warms up; later ones hold twice the tokens, and take as long for each."""
    steps = [{"kind": "step", "seconds": 9.0, "tokens": 100}]
    steps += [{"kind": "step", "seconds": 1.0, "tokens": 100}] * 10
    steps += [{"kind": "step", "seconds": 2.5, "tokens": 200}] * 9
    told = from_first_steps([{"kind": "phase", "name": "train"}, *steps], 20)
    assert told == pytest.approx(11 * 1.0 + 9 * 2.0)
    assert from_first_steps(steps[:20], 40) == pytest.approx(40.0)  # stopped early: by steps
    assert from_first_steps(steps[:10], 10) is None
