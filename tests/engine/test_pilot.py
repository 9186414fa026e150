"""What a pilot does with what its slices showed."""

import numpy as np
import pytest

from engine.metrics import bootstrap
from engine.metrics.kinds import Answers
from engine.pilot import stages_of
from engine.pilot_course import stand


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BOOTSTRAP_SAMPLES", 300)


def losses(mean: float, noise: float = 0.01) -> Answers:
    """200 rows with exactly that mean loss above 0.5."""
    spread = np.random.default_rng(round(1000 * mean)).normal(0, noise, 200)
    return Answers([], list(0.5 + mean + spread - spread.mean()))


@pytest.mark.parametrize(
    ("longest", "shortest", "share", "stages"),
    [
        (5000, 5000, 0.1, [500, 1000]),
        (5000, 2500, 0.1, [500, 1000]),
        (400, 400, 0.1, [100]),  # never under 100 steps, which is beyond 20% here
        (600, 600, 0.1, [100, 120]),
        (1000, 1000, 0.3, [300]),
        (80, 60, 0.1, [60]),
        (1000, 150, 0.1, [100, 150]),
    ],
)
def test_slices_are_a_tenth_and_a_fifth_of_the_run_but_100_steps_at_least(
    longest: int, shortest: int, share: float, stages: list[int]
) -> None:
    assert stages_of(longest, shortest, share) == stages


def test_who_is_clearly_behind_goes_and_two_stay_where_nothing_is_clear() -> None:
    found = stand({"full": losses(0.0), "lora": losses(0.1), "qlora": losses(0.2)}, {}, frozenset())
    assert found.left == ["full"]
    assert set(found.dropped) == {"lora", "qlora"}
    found = stand({"full": losses(0.0, 1.0), "lora": losses(0.001, 1.0), "qlora": losses(0.002, 1.0)}, {}, frozenset())
    assert len(found.left) == 2
    assert len(found.dropped) == 1


def test_full_fine_tuning_is_not_given_up_before_a_fifth_of_its_run() -> None:
    behind = {"lora": losses(0.0), "qlora": losses(0.001, 1.0), "full": losses(0.3)}
    assert stand(behind, {}, frozenset({"full"})).left == ["lora", "qlora", "full"]
    assert "full" in stand(behind, {}, frozenset()).dropped


def test_a_raised_learning_rate_must_be_clearly_ahead_of_the_usual_one() -> None:
    slightly = {"full": losses(0.01, 0.5), "full-raised": losses(0.0, 0.5), "lora": losses(0.5, 0.5)}
    found = stand(slightly, {"full-raised": "full"}, frozenset())
    assert found.order.index("full-raised") < found.order.index("lora")
    assert found.left[0] == "full"
    assert "short runs flatter it" in found.dropped["full-raised"]
    clearly = {"full": losses(0.2), "full-raised": losses(0.0)}
    assert stand(clearly, {"full-raised": "full"}, frozenset()).left == ["full-raised"]
    alone = {"full-raised": losses(0.0), "lora": losses(0.5)}
    assert stand(alone, {"full-raised": "full"}, frozenset()).left == ["full-raised"], "the usual one failed"
