"""A device's measured constants, kept by device, and what past runs say about the predictions."""

import contextlib
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from engine.files import read_json, write_json
from engine.inspection.child import ask
from engine.inspection.nf4 import state_folder
from recommender.facts import Machine

SECONDS = 120.0
FRESH_SECONDS = 7 * 86_400.0
"""How long a reading of a processor's speed is believed: it may be slower for good, on battery or in a smaller share."""
AGREEING = 3
"""Runs that have to say the same before it is believed."""
SPREAD = 0.05
"""How far apart they may be."""


def measure(machine: Machine) -> dict[str, Any]:
    """Measure this machine's device now (under 30 s) and keep the result; not where others kept it `busy`: it would seem slow.

    Raises:
        InputError: the device cannot be measured.
    """
    found = ask("calibrate", {}, about="this device", timeout=SECONDS)
    if not found["busy"]:
        _keep(machine, found)
    return found


def fastest_reading(machine: Machine) -> dict[str, float]:
    """Matrix-multiply speed of the CPU by precision: measured now (0.3 s), or the fastest reading of the last days.

    Other work, that of the app itself too, can only make a processor seem slower. So that the app and the command line
    promise the same time, all of them go by the same reading.
    """
    from engine.inspection.machine import calibrate

    now, kept = calibrate(), (remembered(machine) or {}).get("reading")
    rate = now.get("fp32", 0.0)
    if isinstance(kept, dict) and rate <= kept["fp32"] and time.time() - kept["time"] < FRESH_SECONDS:
        return {"fp32": float(kept["fp32"])}
    if rate:
        with contextlib.suppress(OSError):
            _keep(machine, {"reading": {"fp32": rate, "time": time.time()}})
    return now


def learn(machine: Machine, reports: list[tuple[str, dict[str, Any]]]) -> tuple[dict[str, float], dict[str, float]]:
    """What runs since the last time say of predicted memory: factors by method before, and now; kept.

    `reports` are (name of the run, content of its `report.json`), the oldest first. Their predictions already had the factors
    of before in them.
    """
    known = remembered(machine) or {}
    before = {str(k): float(v) for k, v in (known.get("runs") or {}).items()}
    new = [(name, report) for name, report in reports if name > str(known.get("runs_until") or "")]
    found = learned([report for _, report in new])
    now = before | {method: before.get(method, 1.0) * factor for method, factor in found.items()}
    if found:
        _keep(machine, {"runs": now, "runs_until": new[-1][0]})
    return before, now


def _keep(machine: Machine, found: dict[str, Any]) -> None:
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(path, _kept() | {_key(machine): (remembered(machine) or {}) | found})


def remembered(machine: Machine) -> dict[str, Any] | None:
    """What was measured of this machine's device; `None` when nothing was."""
    found = _kept().get(_key(machine))
    return found if isinstance(found, dict) else None


def learned(reports: list[dict[str, Any]]) -> dict[str, float]:
    """Factors by which runs differed from their prediction, by method: only where three agree, and as their median.

    `reports` are contents of `report.json`.
    """
    ratios: dict[str, list[float]] = {}
    for report in reports:
        memory = report.get("memory") or {}
        predicted, peak = memory.get("predicted"), memory.get("peak")
        if isinstance(predicted, int) and isinstance(peak, int) and predicted > 0 and peak > 0:
            ratios.setdefault(str(report.get("method")), []).append(peak / predicted)
    found = {}
    for method, seen in ratios.items():
        newest = seen[-AGREEING:]
        if len(newest) == AGREEING and max(newest) - min(newest) <= SPREAD * median(newest):
            found[method] = median(newest)
    return found


def _kept() -> dict[str, Any]:
    try:
        found = read_json(_path(), 1_000_000)
    except (OSError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _path() -> Path:
    return state_folder() / "devices.json"


def _key(machine: Machine) -> str:
    name = (machine.device.name or "gpu") if machine.device else f"cpu {machine.cpu_name} {machine.cpu_cores}"
    return json.dumps([machine.backend, name])
