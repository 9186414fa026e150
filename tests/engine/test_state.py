"""The state that viewers show, folded from events."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import KINDS, Event
from engine.pace import PROBE_SECONDS
from engine.state import RunState, fold
from recommender.timing import SAVED
from tui import headless
from tui.views_run import time_left


def events(*rows: tuple[str, dict[str, Any]]) -> list[Event]:
    return [{"v": 1, "seq": n, "time": 100.0 + n, "kind": kind, **fields} for n, (kind, fields) in enumerate(rows, 1)]


def run(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "run", {"total_steps": 10, "evaluations": 2, "resumed_from": None} | fields


def step(n: int, loss: float | None = 1.0, **fields: Any) -> tuple[str, dict[str, Any]]:
    return "step", {"step": n, "loss": loss, "seconds": 2.0, "tokens": 100, "rows": 8} | fields


def scored(n: int, split: str = "validation", seconds: float = 3.0) -> tuple[str, dict[str, Any]]:
    return "evaluation", {"step": n, "split": split, "metrics": {"accuracy": n / 10, "seconds": seconds}}


def test_a_run_from_start_to_end() -> None:
    state = fold(
        events(
            ("phase", {"name": "load", "done": 0, "total": 0, "unit": ""}),
            run(),
            scored(0, "before"),
            step(1, 2.0, learning_rate=1e-4, memory=500),
            step(2, 1.5, memory=400),
            scored(2),
            ("checkpoint", {"step": 2}),
            ("warning", {"code": "slow", "text": "…"}),
            scored(2, "after"),
            ("end", {"status": "done", "code": 0}),
        )
    )
    assert state.status == "done"
    assert state.losses == [(1, 2.0), (2, 1.5)]
    assert (state.memory_now, state.memory_peak) == (400, 500)
    assert (state.tokens_per_second, state.seconds_per_step) == (50.0, 2.0)
    assert state.scores("after") == {"accuracy": 0.2, "seconds": 3.0}
    assert state.scores("probe") is None
    assert state.checkpoint == 2
    assert [w["code"] for w in state.warnings] == ["slow"]


def test_steps_done_again_replace_what_was_seen() -> None:
    again = fold(events(run(), *(step(n, 1.0) for n in range(1, 6)), scored(4), step(3, 9.0)))
    assert again.losses == [(1, 1.0), (2, 1.0), (3, 9.0)]
    assert again.scores("validation") is None
    assert again.tokens_seen == 300, "what is done again counts once"
    last = fold(events(run(), step(1), step(2), step(2, 9.0)))
    assert last.losses == [(1, 1.0), (2, 9.0)]
    assert last.tokens_seen == 200


def test_a_resumed_run_stands_where_its_checkpoint_does() -> None:
    before = [run(), *(step(n) for n in range(1, 8)), scored(4), scored(6), ("end", {"status": "stopped", "code": 5})]
    state = fold(events(*before, ("phase", {"name": "load"}), run(resumed_from=4)))
    assert (state.status, state.end, state.step, state.started) == ("running", None, 4, 101.0)
    assert [n for n, _ in state.losses] == [1, 2, 3, 4]
    assert [e.step for e in state.evaluations] == [4]


def test_a_run_that_ended_counts_as_starting_once_a_new_worker_loads() -> None:
    state = fold(events(run(), step(1), ("end", {"status": "stopped", "code": 5}), ("phase", {"name": "load"})))
    assert (state.status, state.end) == ("starting", None)


def test_time_left_counts_steps_evaluations_and_the_final_scoring() -> None:
    state = fold(events(run(), scored(0, "before", 7.0), step(1), step(2), scored(2, seconds=3.0)))
    assert state.seconds_left == pytest.approx(8 * 2.0 + 1 * 3.0 + 7.0)
    before = ("evaluation", {"step": 0, "split": "before", "metrics": {"rows": 20, "seconds": 7.0}})
    tokens = {"held_out": 200, "validation": 100, "fit": 0, "probe": 600}
    probed = fold(events(run(tokens=tokens), before, step(1), step(2), scored(2)))
    thrice = 3 * 7.0 + PROBE_SECONDS
    assert probed.seconds_left == pytest.approx(8 * 2.0 + 1 * 3.0 + 7.0 + thrice), "the probe reads three times as many tokens"
    early = fold(events(run(tokens=tokens | {"probe": 0}), before, step(1), step(2)))
    assert early.seconds_left == pytest.approx(8 * 2.0 + 2 * 3.5 + 7.0), "none yet: half as many tokens as before"
    loaded: list[tuple[str, dict[str, Any]]] = [("phase", {"name": name}) for name in ("load", "load", "tokenize")]
    assert fold(events(*loaded, run(), step(1), step(2))).seconds_left == pytest.approx(8 * 2.0 + 1.0), "the result is loaded"
    phases: list[tuple[str, dict[str, Any]]] = [("phase", {"name": name}) for name in ("before", "answers")]
    written = [*phases, before, step(1), step(2)]
    assert fold(events(run(tokens=tokens | {"probe": 0}), *written)).seconds_left == pytest.approx(
        8 * 2.0 + 2 * 0.5 + 7.0
    ), "a second was scored, then answers were written"
    large = [run(evaluations=2), ("preflight", {"disk": {"checkpoint": 3 * SAVED}}), scored(0, "before", 7.0), step(1)]
    assert fold(events(*large)).seconds_left == pytest.approx(9 * 2.0 + 2 * 3.0 + 7.0 + 3.0), "none saved yet: by its size"
    quick = ("checkpoint", {"step": 1, "seconds": 0.5})
    assert fold(events(*large, quick)).seconds_left == pytest.approx(9 * 2.0 + 2 * 0.5 + 7.0 + 0.5), "as the last one"
    blind = run(evaluations=0, checkpoints=5)
    unscored = 6 * 2.0 + 3 * 0.5 + 0.5
    assert fold(events(blind, step(4), quick)).seconds_left == pytest.approx(unscored), "saved, though not scored"
    learning = ("sample", {"number": 0, "split": "learning", "seconds": 4.0})
    told = fold(events(run(), scored(0, "before", 7.0), step(1), step(2), learning, scored(2), learning, scored(4)))
    assert told.seconds_left == pytest.approx(8 * 2.0 + 7.0), "no evaluation is left"
    told = fold(events(run(evaluations=4), scored(0, "before", 7.0), step(1), step(2), learning, scored(2), learning, scored(4)))
    assert told.seconds_left == pytest.approx(8 * 2.0 + 2 * (3.0 + 4.0) + 7.0), "answers are written at each of them"


def test_a_run_that_may_stop_early_is_said_to_take_up_to_what_all_its_steps_take() -> None:
    """Of a run that stopped after 264 of 660 steps it was said to the end that 74 seconds were left, and 15 were."""
    early = [run(total_steps=20, stops_early=True), *(step(n) for n in range(1, 13))]
    assert time_left(fold(events(*early)), 0.0).plain.startswith("up to ")
    assert re.search(r"up to .* left · ends by", headless.progress(fold(events(*early))))
    assert time_left(fold(events(run(total_steps=20), *early[1:])), 0.0).plain.startswith("about ")
    assert not fold(events(*early, ("phase", {"name": "after"}))).may_end_sooner, "what follows is not cut short"
    assert not fold(events(run(total_steps=20, stops_early=True, stops_at=15), *early[1:])).may_end_sooner


def test_time_left_runs_on_between_two_events_and_goes_by_a_worker_s_own_steps() -> None:
    beats: list[tuple[str, dict[str, Any]]] = [("heartbeat", {})] * 5
    waited = [fold(events(run(), step(1), *beats[:n])).seconds_left for n in range(6)]
    assert waited == [pytest.approx(s) for s in (18.0, 17.0, 16.0, 16.0, 16.0, 16.0)], "no further than the step being taken"
    slow = [run(), step(1, seconds=30.0), *(step(n) for n in range(2, 10))]
    assert fold(events(*slow)).seconds_left == pytest.approx(2.0), "the first step of a worker warms up"
    assert fold(events(*slow)).measuring
    assert not fold(events(*slow, step(10))).measuring
    assert fold(events(*slow, run(resumed_from=9), step(10))).measuring, "a new worker may be on another machine"


def test_once_the_training_is_over_what_follows_counts_down() -> None:
    def left(*names: str) -> float | None:
        trained = [run(), scored(0, "before", 7.0), step(1), step(2)]
        return fold(events(*trained, *(("phase", {"name": name}) for name in names))).seconds_left

    assert left("after") == pytest.approx(7.0)  # it stopped early, after 2 of 10 steps
    assert left("after", "save", "after", "answers") == pytest.approx(7.0 - 3.0)
    assert left(*["after"] * 20) == pytest.approx(0.7), "it takes longer than was said, and is not over"
    assert (left("samples") or 0.0) > 16.0, "a paused run that goes on, not yet trained"
    trained = [run(), scored(0, "before", 7.0), *(step(n) for n in range(1, 11))]
    rest = fold(events(*trained, run(resumed_from=10), ("phase", {"name": "after"})))
    assert rest.seconds_left == pytest.approx(7.0), "of a worker that trains no more"
    assert not rest.measuring


def test_time_left_is_unknown_before_the_first_step_and_after_the_end() -> None:
    assert fold(events(run())).seconds_left is None
    assert fold(events(run(), step(1), ("end", {"status": "failed"}))).seconds_left is None


def test_a_night_asleep_and_a_clock_that_is_set_are_no_time_of_the_run() -> None:
    """What tells that is the clock that stands meanwhile; one worker's is not that of the next after a restart."""
    told = events(run(), scored(0, "before", 7.0), step(1), step(2), step(3), ("phase", {"name": "load"}), run(), step(4))
    clocks = (10.0, 11.0, 13.0, 15.0, 17.0, 1.0, 2.0, 4.0)
    asleep, set_back = (3, 30_000.0), (4, -500.0)
    for n, by in (asleep, set_back):
        for event in told[n:]:
            event["time"] += by
    state = fold([event | {"monotonic": clock} for event, clock in zip(told, clocks, strict=True)])
    assert state.elapsed == pytest.approx(7.0 + 3.0)
    assert fold(told).elapsed > 30_000.0, "a log of an older version tells it by the wall clock"
    steps = [event | {"monotonic": clock} for event, clock in zip(told[:5], clocks, strict=False)]
    assert fold(steps).seconds_left == pytest.approx(7 * 2.0 + 7.0)


def test_a_lost_number_leaves_a_gap_not_a_lie() -> None:
    state = fold(events(run(), step(1, None), step(2, 1.0, grad_norm=None)))
    assert state.losses == [(2, 1.0)]
    assert state.step == 2


def test_an_end_of_a_kind_unknown_here_is_a_failure() -> None:
    assert fold(events(run(), ("end", {"status": "exploded"}))).status == "failed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, float("inf"), -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["time", "step", "loss", "seconds", "tokens", "rows", "memory", "epoch", "learning_rate", "grad_norm", "name", "done"]
FIELDS += ["total", "unit", "metrics", "split", "status", "machine", "total_steps", "evaluations", "resumed_from", "code"]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(KINDS)),
            st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(["seconds", "memory"]), JSON)),
        ),
        max_size=8,
    )
)
def test_nothing_a_log_may_hold_raises(rows: list[tuple[str, dict[str, Any]]]) -> None:
    state: RunState = fold(events(run(), step(1), *rows))
    assert state.seconds_left is None or isinstance(state.seconds_left, float)
    assert state.sequence == len(rows) + 2
