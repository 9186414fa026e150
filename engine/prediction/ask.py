"""Asking for an estimate: what can be refused at once is, and the tracing is done in a child with limits.

Answers are kept by what they depend on: the facts, the installed libraries and this program's own code.
"""

import json
import time
from typing import Any

from engine.inspection import cache as remembering
from engine.inspection.child import Cancel, ask
from engine.inspection.pipes import Progress
from engine.inspection.quantized import method_of
from engine.installed import version
from engine.launch import arithmetic
from engine.prediction.configured import Cannot, check_step, checked
from engine.prediction.contradictory import check, ignored
from engine.prediction.heads import head_of
from engine.prediction.resolve import OLDER
from engine.text import clean
from recommender.errors import InputError, Refused
from recommender.facts import Facts

SECONDS = 240.0
TRACES = "traces"
MEMORY = 24 * 1024**3
"""Address space; torch alone reserves several GiB that it never touches."""
MOST_TOKENS = 1 << 31
LEAST_CARD = 1 << 26
"""Bytes of memory that every card has: a smaller number counts something larger."""
KNOWN = ("cpu", "cuda")
"""Backends whose kernels and allocator are traced."""
MOST_NAMES, MOST_NAME = 20, 60
"""Of fields that are not understood, and characters of one."""
USUAL = ("micro_batch_rows", "length", "optimizer", "loss")
"""Of a step: what it has by itself where nothing is said."""


def estimate(facts: Facts, *, cancel: Cancel | None = None) -> dict[str, Any]:
    """Memory in bytes and time of the step of the facts: the answer of `loracle estimate` (docs/memory.md).

    Raises:
        Cannot: the model or the step does not allow it.
    """
    step = facts.step
    if step is None:
        raise Cannot("no_step", "the facts have no `step`; estimate needs to know which step is meant.", 2)
    if facts.machine.backend not in KNOWN:
        said = f"kernels and allocator of the backend {facts.machine.backend} are not in the table; a real probe can measure it"
        raise Cannot("unknown_device", f"cannot predict: {said}.")
    for device in facts.machine.devices:
        total, free = device.memory_total, device.memory_free
        if total is not None and total < LEAST_CARD:
            said = f"memory_total is {total:,}, and sizes are bytes; no card has so few"
            raise Cannot("absurd_number", f"machine.devices: {said}.", 2)
        if total is not None and (free or 0) > total:
            raise Cannot("contradiction", f"machine.devices: memory_free is {free:,}, and memory_total only {total:,}.", 2)
    try:
        check(step, facts)
    except InputError as error:
        raise Cannot("contradiction", error.message, 2) from None
    given = facts.model
    facts = facts.model_copy(update={"model": checked(given)})
    check_step(step, facts.model.config or {}, head := step.head or head_of(facts))
    rows, length = max(step.micro_batch_rows, step.evaluation_rows or 0), step.length
    if rows * length > MOST_TOKENS:
        raise Cannot("absurd_number", f"step: {rows:,} rows of {length:,} tokens are more than any device holds.", 2)
    found = traced("estimate", facts.model_dump(mode="json"), about=facts.model.id or "the step", cancel=cancel)
    told = "machine" in facts.model_fields_set and "backend" in facts.machine.model_fields_set
    silent = [] if told else ["machine"]
    silent += [] if given.config else ["model.config"]
    silent += [name for name in USUAL if name not in step.model_fields_set]
    absent: list[str] = found.pop("ignored", [])
    passed = [clean(name)[:MOST_NAME] for name in [*ignored(step, head), *absent][:MOST_NAMES]]
    kept = method_of(facts.model.config or {})  # what bitsandbytes has in 4 bit is what QLoRA's step counts
    passed += ["model.config.quantization_config"] if kept and (kept, step.method) != ("bitsandbytes", "qlora") else []
    passed += ["older_attention"] if step.older_attention and (facts.model.config or {}).get("model_type") not in OLDER else []
    passed += ["data.task"] if facts.data.task == "preference" else []  # no step has pairs, nor a reference
    return found | {"assumed": [*silent, *found["assumed"]]} | ({"ignored": passed} if passed else {})


def traced(
    kind: str, request: dict[str, Any], *, about: str, seconds: float = SECONDS, cancel: Cancel | None = None
) -> dict[str, Any]:
    """What the child says to a request, or has said before.

    Raises:
        Cannot: it cannot be traced.
    """
    key = key_of(kind, {"asked": request, "environment": arithmetic()})  # under it operations are timed
    known = remembering.remembered(key, TRACES)
    if known is None:
        known = _from_child(kind, request, about=about, seconds=seconds, cancel=cancel)
        remembering.remember(key, known, TRACES)
    return known


def _from_child(
    kind: str, request: dict[str, Any], *, about: str, seconds: float, progress: Progress | None = None, cancel: Cancel | None
) -> dict[str, Any]:
    begun = time.monotonic()
    try:
        asked = {"kind": kind, "asked": request}  # under the worker's threads and allocator: some operations are timed
        limits: dict[str, Any] = {"timeout": seconds, "memory": MEMORY}
        return ask("trace", asked, about=about, **limits, extra=arithmetic(), progress=progress, cancel=cancel)
    except Refused as error:
        raise Cannot("untraceable", error.message) from None
    except InputError as error:
        if time.monotonic() - begun >= seconds:
            said = f"counting this step took longer than {seconds:.0f} seconds; a real probe can measure it"
            raise Cannot("too_slow", f"cannot predict: {said}.") from None
        raise Cannot("unusable", error.message, 2) from None


def each(
    request: dict[str, Any],
    plans: list[dict[str, Any]],
    *,
    about: str,
    seconds: float,
    within: float,
    waits: bool = True,
    told: Progress | None = None,
    cancel: Cancel | None,
) -> tuple[dict[str, Any], set[str]]:
    """What the child says of each of these steps, by name, and the names of those that it had no time for: of those that stand
    beside others none is begun later than `within` seconds after the first, of all others none in the second half of `seconds`;
    unless somebody `waits` only what is remembered is told. What is in neither cannot be traced. Each is remembered by itself,
    by the child as soon as it is counted: one that is ended for the time it takes, on a busy machine, leaves that and has had no
    time for the others. `told` is called before a wait, and
    during it, with how many of how many are counted.
    """

    def key(plan: dict[str, Any]) -> str:
        return key_of("step", {"asked": request | {"plan": {**plan, "name": None, "beside": None}}, "environment": arithmetic()})

    def known() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        answers = {plan["name"]: remembering.remembered(key(plan), TRACES) for plan in plans}
        counted = {name: answer["step"] for name, answer in answers.items() if answer is not None and answer["step"] is not None}
        return counted, [plan for plan in plans if answers[plan["name"]] is None]

    found, lacking = known()
    if not lacking or not waits:
        return found, {plan["name"] for plan in lacking}
    asked = request | {"plans": [plan | {"key": key(plan)} for plan in lacking], "within": seconds / 2, "beside_within": within}
    if told is not None:
        told(0, len(lacking), "steps")
    try:
        said = _from_child("candidates", asked, about=about, seconds=seconds, progress=told, cancel=cancel)
    except Cannot as error:
        found, lacking = known()
        return found, {plan["name"] for plan in lacking if error.code == "too_slow" or plan.get("beside")}
    left = set(said.get("left", ()))
    for plan in lacking:
        if plan["name"] not in left and plan["name"] not in said["steps"] and not said.get("short_of_memory"):
            remembering.remember(key(plan), {"step": None}, TRACES)  # which with more memory might be another answer
    return found | said["steps"], left


def key_of(kind: str, request: dict[str, Any]) -> str:
    """The name under which an answer is kept: with other libraries it would be another one."""
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "bitsandbytes")}
    return remembering.key_for({"kind": kind, "request": request, "versions": versions})


def as_json(answer: dict[str, Any]) -> str:
    """One line."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)
