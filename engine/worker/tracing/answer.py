"""What the child answers to a request for a trace."""

import warnings
from typing import Any

from engine.worker.tracing.candidates import candidates, fits
from engine.worker.tracing.estimate import estimate
from recommender.facts import Facts


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """`kind` is `estimate`, and `facts` hold a step; or `candidates` or `fits`, and beside them stand the `plans` to trace; or
    `bf16`.

    Raises:
        Refused, InputError: there is no answer, and why.
    """
    warnings.simplefilter("ignore")  # of the libraries about one another; nobody reads a child's warnings
    if request["kind"] in ("candidates", "fits"):
        asked = request["asked"]
        facts = Facts.model_validate(asked["facts"])
        if request["kind"] == "fits":
            return fits(facts, asked["plans"])
        return candidates(facts, asked["plans"], expandable=asked["expandable"])
    if request["kind"] == "bf16":
        from engine.worker.bf16_trial import trials

        return trials(request["asked"])
    return estimate(Facts.model_validate(request["asked"]))
