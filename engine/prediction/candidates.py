"""The memory of a recommendation's candidates, traced: exact numbers in the place of the formula's."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from engine.inspection import child
from engine.inspection.child import Cancel
from engine.inspection.pipes import Progress
from engine.inspection.processor import is_here
from engine.launch import arithmetic, expandable, is_room_beside
from engine.prediction.ask import KNOWN, each
from engine.prediction.configured import Cannot, checked
from recommender import savings
from recommender.decide import completed, recommend, settled
from recommender.edits import edited
from recommender.facts import Facts, Machine
from recommender.footprint import Step
from recommender.gates import is_hopeless
from recommender.hyper import ALL_LINEAR
from recommender.largest import Largest, largest_micro_batch
from recommender.plan import Plan
from recommender.recommendation import Candidate, Recommendation
from recommender.traced import SHOWN, as_facts, asking, at_once, counted, one_of_each_way, untimed, untraceable
from recommender.typical import micro_batch
from recommender.variants import step_of

SECONDS = 120.0
"""A recommendation waits no longer for all of it."""
WITHIN = 10.0
"""No later are steps begun that decide beside what is recommended: what is left is counted the next time."""
REMEMBERED = 40
"""Earlier steps that stay in the profile: a person edits back and forth."""
MOST_BESIDE = 8
"""Steps of other ways that are counted at a time beside those that are advised."""
OFF = "LORACLE_TRACE"
"""Set to 0 in the environment: nothing is traced, and no bytes are told."""
ROUNDS = 6
"""With what was counted other settings may be advised, whose steps are then counted too: at most so many times."""
OF_PLANS = {"precision", "gradient_checkpointing", "optimizer", "trained", "last_layers", "dropout", "adapter_dtype", "dora"}
OF_ADAPTERS = {"dropout", "adapter_dtype", "dora"}
"""Of a step's choices, those that a plan has by the same names, and those that only adapters have."""
OF_DATA = {"task", "tokens_total", "trained_tokens", "read_tokens", "read_tokens_max", "written_tokens_max"}
"""What a step's trace depends on of the data."""
SPEEDS = {"matmul_flops", "bandwidth", "launch"}
"""And of what was measured of a card, of how long it takes."""
Own = Callable[[Recommendation], Iterable[Plan]]


def prepare(machine: Machine) -> None:
    """Have a child import what traces and trials need, seconds of work, beside what is still looked at: nobody waits.

    Nothing is to be timed meanwhile. Not where it would take a core or memory that others need.
    """
    if machine.backend in KNOWN and not is_off() and is_room_beside(machine):
        child.prepare("trace", extra=arithmetic())


def is_wanted(facts: Facts, shown: Iterable[Candidate]) -> bool:
    """Whether tracing could say more about these candidates than is known."""
    return _can_be_traced(facts) and bool(_unknown(facts, steps_of(facts, shown)))


def steps_of(facts: Facts, shown: Iterable[Candidate]) -> list[Step]:
    """Of candidates; on several devices each takes the same step."""
    return [step_of(facts, c.method, c.settings) for c in sorted(shown, key=lambda c: c.method)]


def _unknown(facts: Facts, shown: Iterable[Step], beside: Iterable[Step] = ()) -> dict[str, tuple[Step, bool]]:
    """Those that have not been counted, nor timed where they are shown, by a name of their own: the method and, of several, a
    number; and whether it stands beside what is shown."""
    hopeless, lacking = untraceable(facts), untimed(facts)
    known = [c.step for c in counted(facts)]
    found: dict[str, tuple[Step, bool]] = {}
    taken = list(hopeless)
    for step, aside in [*((step, False) for step in shown), *((step, True) for step in beside)]:
        if step not in taken and (step not in known or (step in lacking and not aside)):
            taken.append(step)
            found[step.method if step.method not in found else f"{step.method} {len(found)}"] = step, aside
    return found


def with_counted_steps(
    facts: Facts, own: Own = lambda _: (), *, advised: bool = True, explained: bool = False, told: Progress | None = None
) -> Facts:
    """The facts with the steps counted of a person's own plans, those that `own` makes of a recommendation, and of all candidates
    that are recommended on them, unless `advised` is false. Then, with all that was advised, of others: those near the
    memory that is free, of which a formula would decide whether they fit, those whose memory a sentence tells, and where the
    advice is `explained`, those after a change that would save memory. Seconds, the first time.

    Sentences about other machines that no number stands in go by the fits of these, and by the formula beyond them: nobody waits
    for them. Who reads the plan on a screen has the time (`deciding`). `told` is called before each wait, and during it, with how
    many of how many are counted. All of them together last no longer than `SECONDS`, which is enough unless the machine is busy.
    """
    until, ends = 0.0, time.monotonic() + SECONDS
    for _ in range(ROUNDS if _can_be_traced(facts) else 0):
        advice, beside = _told(facts, explained=explained) if advised else (recommend(facts), [])
        edits = [edited(facts, advice.candidate(plan.method), plan).candidate for plan in own(advice)]
        shown = [*steps_of(facts, edits), *(steps_of(facts, advice.candidates) if advised else ())]
        if (now := time.monotonic()) >= ends:
            break
        left = until - now if until else WITHIN / 2
        others = beside if left > 0 else ()
        before, facts = facts, with_traces(facts, shown, others, within=left, seconds=ends - now, fits=advised, told=told)
        if facts is before or not counted(facts):  # where nothing shown can be traced, nothing beside it can
            break
        until = until or time.monotonic() + WITHIN / 2
    return facts


def remembered(facts: Facts) -> Facts:
    """The facts with what is counted already of the candidates that are recommended on them; nobody waits."""
    for _ in range(ROUNDS if _can_be_traced(facts) else 0):
        advice, beside = _told(facts)
        before, facts = facts, with_traces(facts, steps_of(facts, advice.candidates), beside, fits=True, waits=False)
        if facts is before:
            break
    return facts


def hangs_on_formula(facts: Facts) -> bool:
    """Whether what is recommended would, and a trace could say otherwise: a step is near what is free, and not counted."""
    if not can_be_counted(facts):
        return False
    with asking() as asked:
        settled(completed(facts)[0])
    return bool(_unknown(facts, (), (step for step, off in asked.items() if off != SHOWN)))


def _told(facts: Facts, *, explained: bool = False) -> tuple[Recommendation, list[Step]]:
    """The advice, and one step of each kind of which the formula decides it, or tells a number."""
    with asking() as asked:
        settled(completed(facts)[0])
    with asking() as every:
        advice = recommend(facts)
    beside = one_of_each_way(facts, asked | {step: off for step, off in every.items() if off == SHOWN})[:MOST_BESIDE]
    return advice, [*beside, *(_changed(facts, advice) if explained else ())]


def deciding(facts: Facts) -> list[Step]:
    """Steps of which a formula decides, in what is recommended on these facts and what would change it, or what would save
    memory, and a trace could."""
    if not _can_be_traced(facts) or not counted(facts):
        return []
    with asking() as asked:
        advice = recommend(facts)
    beside = [*one_of_each_way(facts, asked)[:MOST_BESIDE], *_changed(facts, advice)]
    return [step for step, _ in _unknown(facts, (), beside).values()]


def _changed(facts: Facts, advice: Recommendation) -> list[Step]:
    """What the candidates' steps would be after the changes that may save most, the best one's first; one of each kind."""
    of_all = sorted(advice.candidates, key=lambda c: c.method != advice.best.method)
    unknown = [step for c in of_all for step in savings.steps(facts, c) if at_once(facts, step) is None]
    return one_of_each_way(facts, dict.fromkeys(unknown, 0.0))


def with_traces(
    facts: Facts,
    shown: Iterable[Step],
    beside: Iterable[Step] = (),
    *,
    within: float = WITHIN,
    seconds: float = SECONDS,
    fits: bool = False,
    waits: bool = True,
    told: Progress | None = None,
    cancel: Cancel | None = None,
) -> Facts:
    """The facts with the memory of these steps as a trace counts it, for deciding once more; the same where nothing is new.

    On this CPU also with the seconds that they take, unless they stand `beside` what is shown: of these none is begun later than
    `within` seconds after the first. With `fits` also how memory grows with batch, length and rank: for those who edit, and for
    deciding about steps of other sizes. What was found is remembered by what it depends on: app and command line say the same;
    unless somebody `waits`, that alone is read.

    Seconds, the first time; `seconds` at most. The formula decides where nothing can be traced: on a device that is neither CUDA
    nor a CPU, of a model with code of its own, of a task whose step is not traced; they are not asked for again.
    """
    if not _can_be_traced(facts):
        return facts
    wanted = _unknown(facts, shown, beside)
    timed = facts.machine.backend == "cuda" or is_here(facts.machine)
    plans = [
        _wanted(facts, step, name)
        | {"fit": fits, "beside": aside, "everyday": micro_batch(facts, step) if timed and not aside else None}
        for name, (step, aside) in wanted.items()
    ]
    if not plans:
        return facts
    found, left = dict[str, Any](), set[str]()
    with suppress(Cannot):  # where the model is none that can be traced, none of its steps is asked for again
        model = checked(facts.model)
        request = {"facts": _steady(facts.model_copy(update={"model": model})), "expandable": expandable()}
        about = facts.model.id or "the model"
        found, left = each(request, plans, about=about, seconds=seconds, within=within, waits=waits, told=told, cancel=cancel)
    return _with(facts, wanted, found, left)


def _with(facts: Facts, wanted: dict[str, tuple[Step, bool]], found: dict[str, Any], left: set[str]) -> Facts:
    """The facts with what was found of those that were wanted, unless they were `left` for another time."""
    answers = {name: answer for name, answer in found.items() if name in wanted}
    hopeless = [asdict(step) for name, (step, _) in wanted.items() if name not in answers and name not in left]
    if not answers and not hopeless:
        return facts
    profile = dict(facts.measured.memory_profile or {})
    entries = [as_facts(wanted[name][0], **answer) for name, answer in answers.items()]
    new = [e["step"] for e in entries]
    older = [e for e in profile.get("steps") or () if isinstance(e, dict) and e.get("step") not in new]
    profile["steps"] = [*older[-REMEMBERED:], *entries]
    lacking = [step for step in profile.get("untimed") or () if step not in new]
    aside = [asdict(wanted[name][0]) for name in answers if wanted[name][1]]
    profile["untimed"] = [*lacking[-REMEMBERED:], *aside]
    if hopeless:
        profile["untraceable"] = [*(profile.get("untraceable") or ())[-REMEMBERED:], *hopeless]
    return facts.model_copy(update={"measured": facts.measured.model_copy(update={"memory_profile": profile})})


def can_be_counted(facts: Facts) -> bool:
    """Whether nothing is known against counting their steps: neither of the device nor of the model."""
    try:
        return _can_be_traced(facts) and bool(checked(facts.model))
    except Cannot:
        return False


def is_off() -> bool:
    """Whether somebody wants nothing to be counted."""
    return os.environ.get(OFF) == "0"


def _can_be_traced(facts: Facts) -> bool:
    return not is_off() and facts.machine.backend in KNOWN and not is_hopeless(facts)


def _steady(facts: Facts) -> dict[str, Any]:
    """What a trace depends on, without what changes from one look at the machine to the next."""
    machine, data = facts.machine, facts.data
    devices = [{"name": d.name, "compute_capability": d.compute_capability} for d in (machine.device,) if d is not None]
    return {
        "machine": {"backend": machine.backend, "devices": devices, "cpu_name": machine.cpu_name, "cpu_cores": machine.cpu_cores},
        "model": facts.model.model_dump(mode="json", include={"config", "vocabulary_size"}),
        "data": data.model_dump(mode="json", include=OF_DATA),
        **({"measured": facts.measured.model_dump(mode="json", include=SPEEDS)} if devices else {}),
    }


def _wanted(facts: Facts, step: Step, name: str) -> dict[str, Any]:
    """A step, for the child: its settings, and the rows of its largest micro-batch, which where the model has to be read `padded`
    may be others."""
    packed, padded = (_sizes(largest_micro_batch(facts, step, packed=way)) for way in (True, False))
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
        "labels": 1 if facts.data.task == "regression" else facts.data.classes or 2,
        **packed,
        "padded": None if padded == packed else padded,
    }


def _sizes(largest: Largest) -> dict[str, int]:
    return {"rows": largest.rows, "length": largest.length, "pieces": 2 if largest.accumulates else 1}
