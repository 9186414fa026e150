"""`loracle estimate` and `calibrate`: memory and time of one training step on an NVIDIA card, and what this device does."""

import argparse
import sys
from typing import Any

from engine.inspect import inspect_machine
from engine.prediction import calibration
from engine.prediction.ask import as_json, estimate
from engine.prediction.configured import Cannot
from engine.rundir import RunDirectory
from engine.runs import all_runs
from engine.text import clean
from recommender.errors import Exit, InputError
from recommender.facts import Facts
from tui.error_words import in_words
from tui.facts_file import facts_from
from tui.i18n import _
from tui.show import Screen
from tui.words import duration, size

PHASES = ("load", "forward", "loss", "backward", "optimizer", "evaluation", "save")


def command(given: argparse.Namespace) -> int:
    """Print the estimate, or why there is none."""
    try:
        found = estimate(_facts(given))
    except Cannot as error:
        text = clean(error.text)
        if given.json:
            print(as_json({"cannot": {"code": error.code, "text": text}}))
        else:
            print(f"loracle: {in_words(text)}", file=sys.stderr)
        return error.exit_code
    if given.json:
        print(as_json({"estimate": found}))
    else:
        _show(found)
    return Exit.DONE


def calibrate(given: argparse.Namespace) -> int:
    """Measure this device, keep the result, and show what changed."""
    machine = inspect_machine()
    before = calibration.remembered(machine)
    found = calibration.measure(machine)
    past = sorted(((r.name, _report(r)) for r in all_runs(given.runs)), key=lambda one: one[0])
    new = "launch" in found and not found["busy"] and "launch" not in (before or {})
    learned = calibration.learn(machine, past, host_is_new=new)
    (old, factors, unlike), (slower, pace, uneven) = learned["runs"], learned["pace"]
    if given.json:
        print(as_json({
            "device": found, "before": before, "runs": factors, "runs_before": old, "runs_apart": unlike,
            "pace": pace, "pace_before": slower, "pace_apart": uneven,
        }))  # fmt: skip
        return Exit.DONE
    screen = Screen()
    if found["busy"]:
        screen.print(_("Something else is using this machine now: the speeds below are too low and were not kept."))
    known = _measured(before or {})
    for name, value in _measured(found).items():
        was = known.get(name)
        words = _("{name}: {value} (was {was})") if was not in (None, value) else _("{name}: {value}")
        screen.print(words.format(name=name, value=value, was=was))
    for method, apart in unlike.items():
        words = _("The last three {method} runs differ by {apart} in memory; above {most} nothing is learned from them.")
        screen.print(words.format(method=method, apart=_percent(apart), most=_percent(calibration.SPREAD)))
    for kind, apart in uneven.items():
        words = _("The last three runs of {kind} differ by {apart} in time; above {most} nothing is learned from them.")
        screen.print(words.format(kind=kind, apart=_percent(apart), most=_percent(calibration.SPREAD_OF_TIME)))
    for method, factor in ((m, f) for m, f in factors.items() if m not in unlike):
        text = _("The last three {method} runs agree: they peaked at {factor:.2f} of the prediction.")
        if old.get(method, 1.0) != factor:
            text += " " + _("Predictions for {method} are multiplied by that from now on (before: {was:.2f}).")
        screen.print(text.format(method=method, factor=factor, was=old.get(method, 1.0)))
    for kind, factor in ((k, f) for k, f in pace.items() if k not in uneven):
        text = _("The last three runs of {kind} agree: a step takes {factor:.2f} of the predicted time.")
        if slower.get(kind, 1.0) != factor:
            text += " " + _("Predicted steps of {kind} are multiplied by that from now on (before: {was:.2f}).")
        screen.print(text.format(kind=kind, factor=factor, was=slower.get(kind, 1.0)))
    return Exit.DONE


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _report(run: RunDirectory) -> dict[str, Any]:
    try:
        return run.report() or {}
    except InputError:  # of a newer version
        return {}


def _measured(found: dict[str, Any]) -> dict[str, str]:
    """What was measured, in words."""
    told = {_("Device"): found.get("name"), "torch": found.get("torch")}
    if found.get("bandwidth"):
        told[_("Copying in memory")] = f"{found['bandwidth'] / 1e9:.3g} GB/s"
    for kind, speed in (found.get("matmul_flops") or {}).items():
        told[_("Matrix products in {precision}").format(precision=kind)] = f"{speed / 1e9:.3g} Gflop/s"
    if found.get("launch"):
        told[_("The host, for an operation")] = f"{1e6 * found['launch']:.3g} µs"
    if found.get("context"):
        told[_("Held beside torch's memory")] = size(found["context"])
    return {name: value for name, value in told.items() if value is not None}


def _facts(given: argparse.Namespace) -> Facts:
    try:
        return facts_from(given.facts)
    except InputError as error:
        raise Cannot("bad_facts", error.message, Exit.USAGE) from None


def _show(found: dict[str, Any]) -> None:
    screen = Screen()
    named = {"allocated": _("Tensors"), "reserved": _("With the allocator's reserve"), "device": _("With the driver's context")}
    for name, words in named.items():
        value = found[name]
        screen.print(_("{what}: {size} (between {low} and {high})").format(
            what=words, size=size(value["predicted"]), low=size(value["low"]), high=size(value["high"])
        ))  # fmt: skip
    by_phase = ", ".join(f"{_(name)} {size(found['phases'][name])}" for name in PHASES)
    screen.print(_("At most, by phase: {phases}").format(phases=by_phase))
    parts = sorted(((n, b) for n, b in found["parts"].items() if b > 2**20), key=lambda p: -p[1])
    screen.print(_("At the peak: {parts}").format(parts=", ".join(f"{_(n)} {size(b)}" for n, b in parts)))
    if "fits" in found:
        room = found["fits"]
        verdicts = {"fits": _("It fits into {free}."), "does_not_fit": _("It does not fit into {free}.")}
        unsure = _("It may or may not fit into {free}: it needs {low} to {high}. A run tries its longest rows first.")
        told = {name: size(room[key]) for name, key in (("free", "available"), ("low", "low"), ("high", "high"))}
        screen.print(verdicts.get(room["verdict"], unsure).format(**told))
    step = found["seconds_per_step"]
    screen.print(_("A step takes about {time} (between {low} and {high})").format(
        time=duration(step["predicted"]), low=duration(step["low"]), high=duration(step["high"])
    ))  # fmt: skip
    if found["assumed"]:
        names = ", ".join(found["assumed"])
        screen.print(_("Not given, so both values or the usual one were assumed: {names}").format(names=names))
    if found.get("ignored"):
        names = clean(", ".join(found["ignored"]))
        screen.print(_("Ignored, because estimate does not know them or the method has none: {names}").format(names=names))
