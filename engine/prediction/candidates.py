"""The memory of a recommendation's candidates, traced: exact numbers in the place of the formula's."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from engine.inspection.child import Cancel
from engine.launch import expandable
from engine.prediction.ask import KNOWN, each
from engine.prediction.configured import Cannot, checked
from recommender import savings
from recommender.decide import completed, recommend, settled
from recommender.edits import edited
from recommender.facts import Facts
from recommender.footprint import Step
from recommender.hyper import ALL_LINEAR
from recommender.plan import Plan
from recommender.recommendation import Candidate, Recommendation
from recommender.traced import (
    as_facts,
    asking,
    at_once,
    counted,
    longest_sequence,
    longest_unit,
    one_of_each_way,
    untimed,
    untraceable,
)
from recommender.variants import step_of

SECONDS = 120.0
"""A recommendation waits no longer for it."""
WITHIN = 10.0
"""No later are steps begun that decide beside what is recommended: what is left is counted the next time."""
REMEMBERED = 40
"""Earlier steps that stay in the profile: a person edits back and forth."""
MOST_BESIDE = 8
"""Steps of other ways that are counted at a time beside those that are advised."""
OFF = "LORACLE_TRACE"
"""Set to 0 in the environment: nothing is traced, and the formula's numbers stand."""
ROUNDS = 6
"""With what was counted other settings may be advised, whose steps are then counted too: at most so many times."""
OF_PLANS = {"precision", "gradient_checkpointing", "optimizer", "trained", "last_layers", "dropout", "adapter_dtype", "dora"}
OF_ADAPTERS = {"dropout", "adapter_dtype", "dora"}
"""Of a step's choices, those that a plan has by the same names, and those that only adapters have."""
Own = Callable[[Recommendation], Iterable[Plan]]


def is_wanted(facts: Facts, shown: Iterable[Candidate]) -> bool:
    """Whether tracing could say more about these candidates than is known."""
    return _can_be_traced(facts) and bool(_unknown(facts, steps_of(facts, shown), timed=True))


def steps_of(facts: Facts, shown: Iterable[Candidate]) -> list[Step]:
    """Of candidates; on several devices each takes the same step."""
    return [step_of(facts, c.method, c.settings) for c in sorted(shown, key=lambda c: c.method)]


def _unknown(facts: Facts, steps: Iterable[Step], *, timed: bool = False) -> dict[str, Step]:
    """Those that have not been counted, nor `timed` where that is wanted, by a name of their own: the method and, of several, a
    number."""
    lacking = untimed(facts) if timed else []
    known = [*(c.step for c in counted(facts) if c.step not in lacking), *untraceable(facts)]
    found: dict[str, Step] = {}
    for step in steps:
        if step not in known:
            known.append(step)
            found[step.method if step.method not in found else f"{step.method} {len(found)}"] = step
    return found


def counted_out(
    facts: Facts, own: Own = lambda _: (), *, advised: bool = True, told: Callable[[], None] | None = None
) -> Facts:
    """The facts with the steps counted of all candidates that are recommended on them, unless `advised` is false, and of a
    person's own plans: those that `own` makes of a recommendation. Then, with all that was advised, of others near the
    memory that is free: a formula would decide whether they fit, and what would help. Seconds, the first time.

    What would change the advice goes by the fits of these, and by the formula beyond them: nobody waits for sentences about other
    machines. Who reads the plan on a screen has the time (`deciding`). `told` is called before each wait."""
    until = 0.0
    for _ in range(ROUNDS if _can_be_traced(facts) else 0):
        advice = recommend(facts)
        edits = [edited(facts, advice.candidate(plan.method), plan).candidate for plan in own(advice)]
        shown = steps_of(facts, [*(advice.candidates if advised else ()), *edits])
        with asking() as asked:
            settled(completed(facts)[0])
        beside = one_of_each_way(asked)[:MOST_BESIDE] if advised else []
        if _unknown(facts, shown, timed=True):
            facts = with_traces(facts, shown, fits=advised, told=told)
            continue
        until = until or time.monotonic() + WITHIN
        left = until - time.monotonic()
        if left <= 0 or not counted(facts) or not _unknown(facts, beside):  # where nothing shown can be traced, neither can these
            break
        facts = with_traces(facts, beside, fits=True, beside=left, told=told)
    return facts


def deciding(facts: Facts) -> list[Step]:
    """Steps of which a formula decides, in what is recommended on these facts and what would change it, and a trace could."""
    if not _can_be_traced(facts) or not counted(facts):
        return []
    with asking() as asked:
        advice = recommend(facts)
    return list(_unknown(facts, _beside(facts, advice, asked)).values())


def _beside(facts: Facts, advice: Recommendation, asked: dict[Step, float]) -> list[Step]:
    """One step of each kind that decides, and what the best candidate's would be after the changes that may save most."""
    changed = [step for step in savings.steps(facts, advice.best) if at_once(facts, step) is None]
    return [*one_of_each_way(asked)[:MOST_BESIDE], *changed]


def with_traces(
    facts: Facts,
    steps: Iterable[Step],
    *,
    fits: bool = False,
    beside: float | None = None,
    told: Callable[[], None] | None = None,
    cancel: Cancel | None = None,
) -> Facts:
    """The facts with the memory of these steps as a trace counts it, for deciding once more.

    On a CPU, which is this one, also with the seconds that they take, unless they stand `beside` what is shown: then none is
    begun later than so many seconds. With `fits` also how memory grows with batch, length and rank: for those who edit, and for
    deciding about steps of other sizes. What was found is remembered by what it depends on: app and command line say the same.

    Seconds, the first time. The formula's numbers stay where nothing can be traced: on a device that is neither CUDA nor a CPU,
    of a model with code of its own, of a task whose step is not traced; they are not asked for again.
    """
    if not _can_be_traced(facts):
        return facts
    wanted = _unknown(facts, steps, timed=beside is None)
    plans = [_wanted(facts, step, name) | {"fit": fits, "timed": beside is None} for name, step in wanted.items()]
    if not plans:
        return facts
    found: dict[str, Any] = {}
    left: set[str] = set()
    try:
        model = checked(facts.model)
        request = {"facts": _steady(facts.model_copy(update={"model": model})), "expandable": expandable()}
        about = facts.model.id or "the model"
        within = SECONDS / 2 if beside is None else beside
        found, left = each(request, plans, about=about, seconds=SECONDS, within=within, told=told, cancel=cancel)
    except Cannot:
        left = set() if beside is None else set(wanted)
    entries = [as_facts(wanted[name], **answer) for name, answer in found.items() if name in wanted]
    profile = dict(facts.measured.memory_profile or {})
    new = [e["step"] for e in entries]
    older = [e for e in profile.get("steps") or () if isinstance(e, dict) and e.get("step") not in new]
    profile["steps"] = [*older[-REMEMBERED:], *entries]
    if facts.machine.device is None:
        lacking = [step for step in profile.get("untimed") or () if step not in new]
        profile["untimed"] = [*lacking[-REMEMBERED:], *(new if beside is not None else ())]
    hopeless = [asdict(step) for name, step in wanted.items() if name not in found and name not in left]
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


def _wanted(facts: Facts, step: Step, name: str) -> dict[str, Any]:
    """A step, for the child: its settings, and the rows of its largest micro-batch."""
    longest = longest_sequence(facts, step.length)
    together = longest_unit(facts, step.length) // longest
    units = max(step.micro_tokens // max(longest, 1) // together, 1)
    settings = {n: value for n, value in asdict(step).items() if n in OF_PLANS} | {"max_length": step.length}
    if step.method != "full":
        settings |= {"rank": step.rank, "alpha": 2 * step.rank, "target_modules": step.target_modules or ALL_LINEAR}
    else:
        settings = {n: value for n, value in settings.items() if n not in OF_ADAPTERS}
    return {
        "name": name,
        "method": step.method,
        "task": facts.data.task,
        "settings": settings,
        "rows": units * together,
        "length": longest,
        "pieces": 2 if step.accumulates else 1,
        "labels": facts.data.classes or 2,
    }
