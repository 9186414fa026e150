"""A device's measured constants, kept by device, and what past runs say about the predictions."""

import contextlib
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from engine.files import alone, write_json
from engine.inspection import machine as here
from engine.inspection.child import ask
from engine.installed import own_code, version
from engine.launch import arithmetic
from engine.userstate import recall, state_folder
from recommender.errors import InputError
from recommender.facts import Machine
from recommender.timing import LEARNED
from recommender.traced import OF_RUNS

FILE = "devices.json"
SECONDS = 120.0
FRESH_SECONDS = 7 * 86_400.0
"""How long a reading of a processor's speed is believed: it may be slower for good, on battery or in a smaller share."""
AGREEING = 3
"""Runs that have to say the same before it is believed."""
SPREAD, SPREAD_OF_TIME = 0.05, 0.15
"""How far apart they may be, of memory and of time."""
OF_CPU = 2
"""The way of runs on a processor. The first, by MKL alone and with small pieces of memory kept, tells nothing of the next."""
OF_TORCH = ("matmul_flops", "bandwidth", "launch", "context", "name", "busy", "torch")
"""What another version of torch would do otherwise."""
OF_PREDICTIONS = ("runs", "runs_until", "pace", "pace_until", "predictor")
"""What other code of ours would predict otherwise."""


def measure(machine: Machine) -> dict[str, Any]:
    """Measure the device that would train, now (under 30 s), as a run would use it, and keep the result; not where others kept it
    `busy`: it would seem slow.

    Raises:
        InputError: the device cannot be measured, or the result cannot be kept.
    """
    asked = {"backend": machine.backend, "uuid": machine.device.uuid if machine.device else None}
    environment = arithmetic() | here.only_device(machine)
    found = ask("calibrate", asked, about="this device", timeout=SECONDS, extra=environment)
    if not found["busy"]:
        _keep(machine, found)
    return found


def fastest_reading(machine: Machine) -> dict[str, float]:
    """Matrix-multiply speed of the CPU by precision: measured now (0.3 s), or the fastest reading of the last days.

    Other work, that of the app itself too, can only make a processor seem slower. So that the app and the command line
    promise the same time, all of them go by the same reading.
    """
    now, kept = here.calibrate(), (remembered(machine) or {}).get("reading")
    rate = now.get("fp32", 0.0)
    if kept is not None and rate <= kept["fp32"] and time.time() - kept["time"] < FRESH_SECONDS:
        return {"fp32": float(kept["fp32"])}
    if rate:
        with contextlib.suppress(InputError):
            _keep(machine, {"reading": {"fp32": rate, "time": time.time()}})
    return now


class Learned(NamedTuple):
    """Factors by which runs differ from their prediction."""

    before: dict[str, float]
    now: dict[str, float]
    apart: dict[str, float]
    """Of kinds whose last three runs disagree, so that nothing was learned: how far apart, as a share of the middle one."""


def learn(machine: Machine, reports: list[tuple[str, dict[str, Any]]], *, host_is_new: bool = False) -> dict[str, Learned]:
    """What runs since the last time say of predicted memory (`runs`, by method) and of the time of a step (`pace`, by method and
    precision): factors before, and now; kept.

    `reports` are (name of the run, content of its `report.json`), the oldest first. Those whose predictions came from other code
    say nothing of this one's; the others' already had the factors of before in them. Where the `host_is_new`, measured for the
    first time, they all were timed without it, and a factor that they showed would count it twice.

    Raises:
        InputError: the result cannot be kept.
    """
    known = remembered(machine) or {}
    by = "allocator" if machine.device else "process"  # of a GPU's memory a process counts what its allocator holds
    code = own_code()
    ours = [(name, report) for name, report in reports if report.get("predictor") == code]
    there = [(name, report) for name, report in ours if (report.get("memory") or {}).get("by", "process") == by]
    found = {}
    for what, (ratio, spread, (least, most)) in _OF_RUNS.items():
        before = {str(k): float(v) for k, v in (known.get(what) or {}).items()}
        last = dict(known.get(f"{what}_until") or {})
        told = [(name, said) for name, report in there if (said := ratio(report)) is not None]
        new = [(name, said) for name, said in told if name > str(last.get(said[0], ""))]
        if what == "pace" and host_is_new:
            _keep(machine, {what: {}, f"{what}_until": last | {said[0]: name for name, said in new}, "predictor": code})
            before, new = {}, []
        last_three = newest([said for _, said in new])
        factors = {kind: middle for kind, (middle, apart) in last_three.items() if apart <= spread}
        now = before | {kind: min(max(before.get(kind, 1.0) * factor, least), most) for kind, factor in factors.items()}
        if factors:  # what other kinds' runs say is not whole yet, and is looked at again
            last |= {said[0]: name for name, said in new if said[0] in factors}
            _keep(machine, {what: now, f"{what}_until": last, "predictor": code})
        found[what] = Learned(before, now, {kind: apart for kind, (_, apart) in last_three.items() if apart > spread})
    return found


def _of_memory(report: dict[str, Any]) -> tuple[str, float] | None:
    """Method, and what the peak was of what was said."""
    memory = report.get("memory") or {}
    return _ratio(str(report.get("method")), memory.get("peak"), memory.get("predicted"))


def _of_time(report: dict[str, Any]) -> tuple[str, float] | None:
    """Method and precision, and what a step took of what was said.

    On a CPU the clock tells too much where others compute as well, and what the processors computed, divided by the threads, too
    little, as a thread that works alone counts as a share of one: between both what was said holds.
    """
    step = report.get("step") or {}
    said, took, least = (step.get(name) for name in ("predicted", "measured", "computed"))
    if (report.get("memory") or {}).get("by") != "allocator":
        known: list[Any] = [value for value in (said, took, least) if _is_rate(value)]
        took = median(known) if len(known) == 3 else None
    return _ratio(f"{report.get('method')} {report.get('precision')}", took, said)


def _ratio(kind: str, took: Any, said: Any) -> tuple[str, float] | None:
    return (kind, took / said) if _is_rate(took) and _is_rate(said) else None


_OF_RUNS = {"runs": (_of_memory, SPREAD, OF_RUNS), "pace": (_of_time, SPREAD_OF_TIME, LEARNED)}
"""How a report's ratio is told, how far apart three may be, and between which factors a prediction believes them: one kept beyond
would be multiplied again by every further run, which was predicted without it."""


def newest(ratios: list[tuple[str, float]]) -> dict[str, tuple[float, float]]:
    """Of the newest three runs of each kind that has so many: the middle one, and how far apart they lie as a share of it."""
    by_kind: dict[str, list[float]] = {}
    for kind, ratio in ratios:
        by_kind.setdefault(kind, []).append(ratio)
    three = {kind: sorted(seen[-AGREEING:]) for kind, seen in by_kind.items() if len(seen) >= AGREEING}
    return {kind: (middle, (most - least) / middle) for kind, (least, middle, most) in three.items()}


def _keep(machine: Machine, found: dict[str, Any]) -> None:
    path = state_folder() / FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(path.parent):  # else of two programs that read, change and write the second takes back what the first one kept
            write_json(path, recall(FILE) | {_key(machine): (remembered(machine) or {}) | found})
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from None


def remembered(machine: Machine) -> dict[str, Any] | None:
    """What was measured of this machine's device, with the torch that is installed, and learned of this code's predictions;
    `None` when nothing was."""
    found = recall(FILE).get(_key(machine))
    if not isinstance(found, dict):
        return None
    known = {name: value for name, value in found.items() if _FORMS.get(name, lambda _: True)(value)}
    then = str(known.get("torch", "")).partition("+")[0]  # the build's name behind it is not in every package's version
    gone: tuple[str, ...] = () if then in ("", _torch()) else OF_TORCH
    if known.get("predictor") != own_code():
        gone += OF_PREDICTIONS
    return {name: value for name, value in known.items() if name not in gone}


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _are_rates(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_rate, value.values()))


_FORMS: dict[str, Callable[[Any], bool]] = {
    "matmul_flops": _are_rates,
    "runs": _are_rates,
    "pace": _are_rates,
    "context": _is_rate,
    "bandwidth": _is_rate,
    "launch": _is_rate,
    "reading": lambda value: _are_rates(value) and {"fp32", "time"} <= value.keys(),
}
"""A file that somebody has changed says nothing where it is not of this form."""


def _torch() -> str | None:
    return (version("torch") or "").partition("+")[0] or None


def _key(machine: Machine) -> str:
    if machine.device:
        return json.dumps([machine.backend, machine.device.name or "gpu"])
    return json.dumps([machine.backend, f"cpu {machine.cpu_name} {machine.cpu_cores}", OF_CPU])
