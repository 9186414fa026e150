"""The steps of a recommendation's candidates, traced as the worker would take them."""

import time
from collections.abc import Callable
from typing import Any

from engine.prediction import sizes
from engine.prediction.allocator import Allocator, Heap
from engine.prediction.stream import Segment, peaks
from engine.worker import products
from engine.worker.budget import is_out_of_memory
from engine.worker.tracing.candidate import UNTRACEABLE, CandidateStep
from engine.worker.tracing.estimate import ALLOCATED, FITTING, RESERVED
from engine.worker.tracing.own import HEADS
from engine.worker.tracing.predicted import parts_by_phase
from engine.worker.tracing.steps import card_of, learned_share
from engine.worker.tracing.timed import wait_for_quiet
from recommender.facts import Facts

TOGETHER = 10.0
"""Seconds of tracing after which each step is timed as soon as it is traced: whoever asks may wait no longer for all of them, and
what was handed over by then is kept."""


def candidates(
    facts: Facts,
    wanted: list[dict[str, Any]],
    *,
    expandable: bool = True,
    within: float = float("inf"),
    beside_within: float = float("inf"),
    counted: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Peak, its interval and its parts by the name of each step, or its method where it has none; what cannot be traced is left
    out, and `short_of_memory` tells whether that was for lack of memory here. `expandable` is how a card's allocator grows.

    A model that reads with padding takes the sizes under `padded`, where there are any. Of a text that is learned in part the
    point has the share that the data have on average, the upper end all of it; sources and targets of an encoder-decoder are
    as long as the longest, where those were counted. Also how long a step takes whose micro-batch has the lengths of an
    `everyday` one: a CPU is taken for this one. What asks for a `fit` also gets how its memory grows with rows, length and
    rank, unless that cannot be told. Steps are timed once all are traced, which is no longer waited for on a slow machine,
    and nothing of ours computes beside. What would begin later than `within` seconds is `left`; of those that stand `beside`
    others, which come last, also what would begin `beside_within` after the first of them. Each that is `counted` is handed
    over at once, with what is told of it.
    """
    card, _ = card_of(facts)
    card = card._replace(onednn=card.kind == "cpu" and products.in_use() == "onednn")
    pooled = card.kind == "cuda"

    def replayed(segments: list[Segment]) -> dict[str, Any]:
        return peaks(segments, Allocator(expandable=expandable) if pooled else Heap())

    found: dict[str, dict[str, Any]] = {}
    short, left = False, list[str]()
    until = time.monotonic() + within

    def told_of(one: dict[str, Any]) -> CandidateStep | None:
        """The step of which what is told was found; `None` where it cannot be traced."""
        nonlocal short
        try:
            step = CandidateStep(facts, one, card)
            segments = step.segments(fits=bool(one.get("fit")))
            told = replayed(segments)
            whole = told
            if learned_share(facts) != 1 and HEADS[one["task"]] == "causal_lm" and not step.ways.written:
                whole = replayed(step.all_learned(segments) or CandidateStep(facts, one, card, learned=1.0).segments())
        except UNTRACEABLE as error:
            short |= is_out_of_memory(error)
            return None
        found[name_of(one)] = {
            **_reserved(step, segments, (told, whole), pooled=pooled, grows=expandable),
            "phases": parts_by_phase(told),
            "trained": step.trained,
            "packed": step.packed,
            "accumulates": step.pieces > 1,
        }
        if step.grows is not None:
            found[name_of(one)]["fit"] = sizes.fitted(segments, step.at, step.ways)
        return step

    begun, waited, hand_over = time.monotonic(), False, counted or (lambda *_: None)
    to_time: list[tuple[dict[str, Any], CandidateStep]] = []

    def time_them() -> None:
        nonlocal waited
        if to_time and not waited and not pooled:
            wait_for_quiet()  # a worker that imports meanwhile is ready by now, or nearly
            waited = True
        while to_time:
            one, step = to_time.pop(0)
            found[name_of(one)] |= step.in_seconds()
            hand_over(one, found[name_of(one)])

    known = [one for one in wanted if one["task"] in HEADS]
    for beside in (False, True):
        if beside:
            until = min(until, time.monotonic() + beside_within)
        for one in known:
            if bool(one.get("beside")) != beside:
                continue
            if time.monotonic() > until:
                left.append(name_of(one))
            elif (step := told_of(one)) is not None and step.is_timed:
                to_time.append((one, step))
                if time.monotonic() - begun > TOGETHER:
                    time_them()
            elif step is not None:
                hand_over(one, found[name_of(one)])
        time_them()
    return {"steps": found, "short_of_memory": short, "left": left}


def _reserved(
    step: CandidateStep, segments: list[Segment], replays: tuple[dict[str, Any], dict[str, Any]], *, pooled: bool, grows: bool
) -> dict[str, Any]:
    """The peak and its interval, by the replays of the step as it is and as it would be if all of its text were learned; `grows`
    are segments of a card that do."""
    told, whole = replays
    kept, fullest = _most(told, "reserved"), _most(whole, "reserved")
    margin = RESERVED if pooled else ALLOCATED
    room = FITTING * _most(whole, "allocated") if pooled else margin[1] * fullest  # a heap gives nothing back
    if pooled and not grows and (differing := step.kept(segments, kept)) is not None:
        kept, fullest = differing.usual, max(fullest, differing.most)
        room = max(room, ALLOCATED[1] * differing.room)
    return {
        "peak": kept,
        "low": int(ALLOCATED[0] * _most(told, "allocated")),
        "high": int(margin[1] * fullest),
        "most": int(room),
        "parts": told["parts"] | {"reserve": kept - sum(told["parts"].values())},
    }


def name_of(one: dict[str, Any]) -> str:
    """Of a step among those that are asked for."""
    return str(one.get("name", one["method"]))


def _most(told: dict[str, Any], which: str) -> int:
    return int(max(p[which] for p in told["phases"].values()))
