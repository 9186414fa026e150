"""What the child answers to a request for a trace."""

import itertools
import warnings
from typing import Any

import psutil

from engine.inspection import cache as remembering
from engine.inspection.pipes import Progress
from engine.prediction.ask import TRACES
from engine.worker import products
from engine.worker.tracing.candidates import candidates
from engine.worker.tracing.estimate import estimate
from recommender.facts import Facts

LIBRARIES = int(psutil.Process().memory_info().rss)
"""Bytes of main memory that this process holds once all is imported: a run's worker imports the same."""


def answer(request: dict[str, Any], tell: Progress | None = None) -> dict[str, Any]:
    """`kind` is `estimate`, and `facts` hold a step; or `candidates`, and beside them stand the `plans` to trace; or `bf16`.
    `tell` is told how many of the plans are counted.

    Raises:
        Refused, InputError: there is no answer, and why.
    """
    warnings.simplefilter("ignore")  # of the libraries about one another; nobody reads a child's warnings
    if request["kind"] in ("candidates", "bf16"):
        products.take_faster()  # as the run will
    if request["kind"] == "candidates":
        asked = request["asked"]
        facts = Facts.model_validate(asked["facts"])
        limits = {name: asked[name] for name in ("expandable", "within", "beside_within")}
        done, every = itertools.count(1), len(asked["plans"])

        def counted(one: dict[str, Any], step: dict[str, Any]) -> None:
            _kept(one, step)
            if tell is not None:
                tell(next(done), every, "steps")

        return candidates(facts, asked["plans"], **limits, counted=counted)
    if request["kind"] == "bf16":
        from engine.worker.bf16_trial import trials

        return trials(request["asked"])
    return estimate(Facts.model_validate(request["asked"]))


def _kept(one: dict[str, Any], step: dict[str, Any]) -> None:
    """Finish what is told of a counted step, and remember it: whoever asked may not wait for the others."""
    step["libraries"] = LIBRARIES
    remembering.remember(one["key"], {"step": step}, TRACES)
