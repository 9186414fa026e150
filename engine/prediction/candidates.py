"""The memory of a recommendation's candidates, traced: exact numbers in the place of the formula's."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from engine.inspection.child import Cancel
from engine.launch import expandable
from engine.prediction.ask import KNOWN, traced
from engine.prediction.configured import Cannot, checked
from recommender.facts import Facts
from recommender.recommendation import Candidate
from recommender.traced import as_facts, counted, longest_sequence, longest_unit
from recommender.variants import step_of

SECONDS = 120.0
"""A recommendation waits no longer for it."""
REMEMBERED = 12
"""Earlier steps that stay in the profile: a person edits back and forth."""
OFF = "LORACLE_TRACE"
"""Set to 0 in the environment: nothing is traced, and the formula's numbers stand."""


def is_wanted(facts: Facts, shown: Iterable[Candidate]) -> bool:
    """Whether tracing could say more about these candidates than is known."""
    if not _can_be_traced(facts):
        return False
    known = [c.step for c in counted(facts)]
    return any(step_of(facts, c.method, c.settings) not in known for c in shown if c.devices == 1)


def with_traces(facts: Facts, shown: Sequence[Candidate], *, fits: bool = False, cancel: Cancel | None = None) -> Facts:
    """The facts with the memory of each of these candidates' steps as a trace counts it, for deciding once more.

    On a CPU, which is this one, also with the seconds that they take. With `fits` also how memory grows with batch, length and
    rank, for those who edit. What was found is remembered by what it depends on: app and command line say the same.

    Seconds, the first time. The facts come back as they were where nothing can be traced: a device that is neither CUDA nor a
    CPU, a model with code of its own, a task whose step is not traced.
    """
    if not _can_be_traced(facts):
        return facts
    steps = {c.method: step_of(facts, c.method, c.settings) for c in shown if c.devices == 1}
    plans = [_wanted(facts, c.settings.model_dump(mode="json"), c.method, steps[c.method].micro_tokens)
             for c in sorted(shown, key=lambda c: c.method) if c.method in steps]  # fmt: skip
    try:
        model = checked(facts.model)
        request = {"facts": _steady(facts.model_copy(update={"model": model})), "plans": plans, "expandable": expandable()}
        about = facts.model.id or "the model"
        found = traced("candidates", request, about=about, seconds=SECONDS, cancel=cancel)
    except Cannot:
        return facts
    with contextlib.suppress(Cannot):
        grows = traced("fits", request, about=about, seconds=SECONDS, cancel=cancel)["fits"] if fits else {}
        for method, fit in grows.items():
            found["steps"].get(method, {})["fit"] = fit
    entries = [as_facts(steps[method], **answer) for method, answer in found["steps"].items() if method in steps]
    if not entries:
        return facts
    profile = dict(facts.measured.memory_profile or {})
    new = [e["step"] for e in entries]
    older = [e for e in profile.get("steps") or () if isinstance(e, dict) and e.get("step") not in new]
    profile["steps"] = [*older[-REMEMBERED:], *entries]
    return facts.model_copy(update={"measured": facts.measured.model_copy(update={"memory_profile": profile})})


def _can_be_traced(facts: Facts) -> bool:
    return os.environ.get(OFF) != "0" and facts.machine.backend in KNOWN


def _steady(facts: Facts) -> dict[str, Any]:
    """What a trace depends on, without what changes from one look at the machine to the next."""
    machine, data = facts.machine, facts.data
    devices = [{"name": d.name, "compute_capability": d.compute_capability} for d in (machine.device,) if d is not None]
    return {
        "machine": {"backend": machine.backend, "devices": devices, "cpu_name": machine.cpu_name, "cpu_cores": machine.cpu_cores},
        "model": facts.model.model_dump(mode="json", include={"config", "vocabulary_size"}),
        "data": {"task": data.task, "tokens_total": data.tokens_total, "trained_tokens": data.trained_tokens},
    }


def _wanted(facts: Facts, settings: dict[str, Any], method: str, micro_tokens: int) -> dict[str, Any]:
    """A candidate's step, for the child: settings, and the rows of its largest micro-batch."""
    longest = longest_sequence(facts, settings["max_length"])
    together = longest_unit(facts, settings["max_length"]) // longest
    units = max(micro_tokens // max(longest, 1) // together, 1)
    return {
        "method": method,
        "task": facts.data.task,
        "settings": settings,
        "rows": units * together,
        "length": longest,
        "pieces": 1 if units >= settings["effective_batch"] else 2,
        "labels": facts.data.classes or 2,
    }
