"""The memory of a recommendation's candidates, traced: exact numbers in the place of the formula's."""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from engine.inspection.child import Cancel
from engine.launch import expandable
from engine.prediction.ask import KNOWN, traced
from engine.prediction.configured import Cannot, checked
from recommender.decide import recommend
from recommender.edits import edited
from recommender.facts import Facts
from recommender.footprint import Step
from recommender.plan import Plan
from recommender.recommendation import Candidate, Recommendation
from recommender.traced import as_facts, counted, longest_sequence, longest_unit, untraceable
from recommender.variants import step_of

SECONDS = 120.0
"""A recommendation waits no longer for it."""
REMEMBERED = 12
"""Earlier steps that stay in the profile: a person edits back and forth."""
OFF = "LORACLE_TRACE"
"""Set to 0 in the environment: nothing is traced, and the formula's numbers stand."""
ROUNDS = 3
"""With what was counted other settings may be advised, whose steps are then counted too: at most so many times."""
OF_A_STEP = ("max_length", "precision", "gradient_checkpointing", "optimizer", "trained", "last_layers",
             "rank", "alpha", "dropout", "target_modules", "adapter_dtype", "dora")  # fmt: skip
"""Settings that a traced step depends on, beside its size."""
Own = Callable[[Recommendation], Iterable[Plan]]


def is_wanted(facts: Facts, shown: Iterable[Candidate]) -> bool:
    """Whether tracing could say more about these candidates than is known."""
    return _can_be_traced(facts) and bool(_unknown(facts, shown))


def _unknown(facts: Facts, shown: Iterable[Candidate]) -> dict[str, tuple[Candidate, Step]]:
    """Candidates whose step has not been counted, and the step, by a name of their own: the method and, of several, a number."""
    known = [*(c.step for c in counted(facts)), *untraceable(facts)]
    found: dict[str, tuple[Candidate, Step]] = {}
    for c in sorted(shown, key=lambda c: c.method):  # on several devices each takes the same step
        step = step_of(facts, c.method, c.settings)
        if step not in known:
            known.append(step)
            found[c.method if c.method not in found else f"{c.method} {len(found)}"] = c, step
    return found


def counted_out(facts: Facts, own: Own = lambda _: (), *, advised: bool = True) -> Facts:
    """The facts with the steps counted of all candidates that are recommended on them, unless `advised` is false, and of a
    person's own plans: those that `own` makes of a recommendation. Seconds, the first time."""
    for _ in range(ROUNDS if _can_be_traced(facts) else 0):
        advice = recommend(facts)
        edits = [edited(facts, advice.candidate(plan.method), plan).candidate for plan in own(advice)]
        shown = [*(advice.candidates if advised else ()), *edits]
        if not is_wanted(facts, shown):
            break
        facts = with_traces(facts, shown)
    return facts


def with_traces(facts: Facts, shown: Sequence[Candidate], *, fits: bool = False, cancel: Cancel | None = None) -> Facts:
    """The facts with the memory of each of these candidates' steps as a trace counts it, for deciding once more.

    On a CPU, which is this one, also with the seconds that they take. With `fits` also how memory grows with batch, length and
    rank, for those who edit. What was found is remembered by what it depends on: app and command line say the same.

    Seconds, the first time. The formula's numbers stay where nothing can be traced: on a device that is neither CUDA nor a CPU,
    of a model with code of its own, of a task whose step is not traced; they are not asked for again.
    """
    if not _can_be_traced(facts):
        return facts
    wanted = _unknown(facts, shown)
    plans = [_wanted(facts, c, step, name) for name, (c, step) in wanted.items()]
    if not plans:
        return facts
    try:
        model = checked(facts.model)
        request = {"facts": _steady(facts.model_copy(update={"model": model})), "plans": plans, "expandable": expandable()}
        about = facts.model.id or "the model"
        found = traced("candidates", request, about=about, seconds=SECONDS, cancel=cancel)
    except Cannot:
        fits, found = False, {"steps": {}}
    with contextlib.suppress(Cannot):
        grows = traced("fits", request, about=about, seconds=SECONDS, cancel=cancel)["fits"] if fits else {}
        for name, fit in grows.items():
            found["steps"].get(name, {})["fit"] = fit
    entries = [as_facts(wanted[name][1], **answer) for name, answer in found["steps"].items() if name in wanted]
    profile = dict(facts.measured.memory_profile or {})
    new = [e["step"] for e in entries]
    older = [e for e in profile.get("steps") or () if isinstance(e, dict) and e.get("step") not in new]
    profile["steps"] = [*older[-REMEMBERED:], *entries]
    hopeless = [asdict(step) for name, (_, step) in wanted.items() if name not in found["steps"]]
    if hopeless:
        profile["untraceable"] = [*(profile.get("untraceable") or ())[-REMEMBERED:], *hopeless]
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


def _wanted(facts: Facts, candidate: Candidate, step: Step, name: str) -> dict[str, Any]:
    """A candidate's step, for the child: settings, and the rows of its largest micro-batch."""
    settings = candidate.settings
    longest = longest_sequence(facts, settings.max_length)
    together = longest_unit(facts, settings.max_length) // longest
    units = max(step.micro_tokens // max(longest, 1) // together, 1)
    return {
        "name": name,
        "method": candidate.method,
        "task": facts.data.task,
        "settings": settings.model_dump(mode="json", include=set(OF_A_STEP)),
        "rows": units * together,
        "length": longest,
        "pieces": 1 if units >= settings.effective_batch else 2,
        "labels": facts.data.classes or 2,
    }
