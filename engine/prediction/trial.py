"""Whether bf16 pays on this processor: a few of the model's own training steps both ways, in a child, remembered.

Only where the processor multiplies bf16 in hardware, and only once for a model, a kind of work and a size of text; what is
known already is read without waiting.
"""

import math
import os
import time
from typing import Any

from engine.inspection import cache as remembering
from engine.inspection.child import Cancel, ask, computed_by_idle
from engine.launch import arithmetic
from engine.prediction.ask import key_of
from recommender import hyper
from recommender.counting import is_labelled
from recommender.errors import LoracleError
from recommender.facts import Bf16Trial, Facts, Machine
from recommender.gates import is_hopeless
from recommender.recommendation import METHODS
from recommender.shape import Shape, shape_of

OFF = "LORACLE_TRIAL"
"""Set to 0 in the environment: nothing is tried, and a CPU computes in fp32."""
SECONDS = 60.0
"""A recommendation waits no longer for it; 8 to 20 are usual, half of them imports."""
COMPUTED = 0.7
"""Share of those seconds that a child which is stopped must have computed: then the model was too slow, not the machine busy."""
KIND = "trials"
TOKENS = (512, 128)
"""Of a step, about: as many as an everyday batch of short texts has, and fewer where a model is large; below that bf16 gains
less than it would."""
WORK = 45e9
"""Floating-point operations of a step, at most: half a second of two cores. Models that are still larger are tried with their
first layers."""
TOO_MUCH = 960e9
"""Beyond that two layers take longer than anybody waits."""
LEAST_LAYERS = 2
LENGTHS = (16, 256)


def with_known_trial(facts: Facts) -> Facts:
    """The facts with what an earlier trial has found; as they were where there was none."""
    wanted = _wanted(facts)
    known = None if wanted is None else remembering.remembered(_key(facts.machine, wanted), KIND)
    return facts if known is None else _with(facts, known)


def is_wanted(facts: Facts) -> bool:
    """Whether a trial could tell something that is not known."""
    return facts.measured.bf16 is None and _wanted(facts) is not None


def with_trial(facts: Facts, *, cancel: Cancel | None = None) -> Facts:
    """The facts with what a trial finds, made now (seconds) where none is remembered.

    They come back as they were where nothing is to be tried or the trial did not end well: then a CPU computes in fp32.
    """
    wanted = _wanted(facts)
    if wanted is None or facts.measured.bf16 is not None:
        return facts
    key = _key(facts.machine, wanted)
    found = remembering.remembered(key, KIND)
    if found is None:
        # A child that waits may be the one that is asked: what it computed before is no part of what the trial does.
        begun, computed = time.monotonic(), computed_by_children() + computed_by_idle()
        try:
            asked = {"kind": "bf16", "asked": wanted}
            found = ask("trace", asked, about="the trial of bf16", timeout=SECONDS, extra=arithmetic(), cancel=cancel)
        except LoracleError:
            late = time.monotonic() - begun >= SECONDS
            if not late or computed_by_children() - computed < COMPUTED * SECONDS:
                return facts  # too large, or the machine too busy, for this moment; another time it may go through
            found = {"methods": {}, "whole": True}  # too slow to try, and so it will be the next time
        if found["whole"]:
            remembering.remember(key, found, KIND)
    return _with(facts, found)


def computed_by_children() -> float:
    """Seconds of processor time of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _with(facts: Facts, found: dict[str, Any]) -> Facts:
    trials = {method: Bf16Trial.model_validate(trial) for method, trial in found["methods"].items()}
    return facts.model_copy(update={"measured": facts.measured.model_copy(update={"bf16": trials})})


def _wanted(facts: Facts) -> dict[str, Any] | None:
    """The steps to take, for the child; `None` where bf16 is no question."""
    machine, model = facts.machine, facts.model
    if os.environ.get(OFF) == "0" or machine.backend != "cpu" or not machine.cpu_bf16:
        return None
    if model.path is None or model.quantization or (model.config or {}).get("auto_map") or is_hopeless(facts):
        return None
    shape = shape_of(model, facts.data.task)
    size = step_size(shape, facts)
    if size is None:
        return None
    rows, length, layers = size
    methods = {}
    for method in METHODS:
        if method == "qlora" and machine.nf4 is not True:
            continue
        settings = hyper.settings_for(facts, shape, method)
        methods[method] = {name: getattr(settings, name) for name in ("rank", "alpha", "target_modules", "dropout")}
    return {
        "path": model.path,
        "config": model.config or {},
        "family": shape.family,
        "task": facts.data.task or "classification",
        "classes": min(facts.data.classes or 2, 1000),
        "methods": methods,
        "rows": rows,
        "length": length,
        "layers": layers if layers < shape.layers else None,
        "depth": shape.layers,
    }


def step_size(shape: Shape, facts: Facts) -> tuple[int, int, int] | None:
    """Rows, tokens of a row and layers of the step to try; `None` where even the smallest takes too long.

    Lengths are powers of two, so that data like that of an earlier trial asks for the same one.
    """
    usual = min(max(facts.data.tokens_p50 or 64, LENGTHS[0]), LENGTHS[1], shape.positions)
    length = 2 ** round(math.log2(usual))
    length = length if length <= shape.positions else length // 2
    beside = 0 if is_labelled(facts.data) else shape.vocabulary * shape.hidden  # the logits of a model that writes
    a_layer = max(shape.active_linear_parameters // max(shape.layers, 1), 1)
    whole, least = a_layer * shape.layers + beside, a_layer * min(LEAST_LAYERS, shape.layers) + beside
    tokens = TOKENS[0]
    while tokens > TOKENS[1] and 6 * tokens * whole > WORK:
        tokens //= 2
    if 6 * tokens * least > TOO_MUCH:
        return None
    layers = max(int((WORK / (6 * tokens) - beside) / a_layer), LEAST_LAYERS)
    length = min(length, tokens)
    return max(tokens // length, 1), length, min(layers, shape.layers)


def _key(machine: Machine, wanted: dict[str, Any]) -> str:
    return key_of(KIND, wanted | {"processor": machine.cpu_name, "cores": machine.cpu_cores, "environment": arithmetic()})
