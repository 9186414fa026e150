"""Numbers, times and states in words, shared by the app and the headless view. Imports nothing heavy at module level."""

import locale
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from recommender import figures
from tui.i18n import _

if TYPE_CHECKING:
    from engine.state import RunState
    from recommender.recommendation import Candidate, Memory

STATUS_WORDS: dict[str, str] = {
    "starting": _("starting"),
    "running": _("running"),
    "done": _("done"),
    "stopped": _("stopped"),
    "failed": _("failed"),
    "refused": _("refused"),
    "dead": _("died"),
    "damaged": _("damaged"),
}
LIVE = ("starting", "running")
"""States of a run that goes on."""
STATUS_SIGNS: dict[str, str] = {
    "starting": "…",
    "running": "▶",
    "done": "✓",
    "stopped": "■",
    "failed": "✗",
    "refused": "✗",
    "dead": "✗",
}


class Phase(NamedTuple):
    """A part of a run in words."""

    words: str
    short: str = ""
    """In the line of all phases; empty of those that stand in another one there."""
    always: bool = True
    """Whether every run has it."""


PHASES: dict[str, Phase] = {
    "starting": Phase(_("starting the worker")),
    "load": Phase(_("loading the model"), _("load")),
    "tokenize": Phase(_("tokenizing the texts"), _("tokens")),
    "reference": Phase(_("scoring pairs with the untouched model"), _("base"), always=False),
    "compile": Phase(_("compiling the layers"), _("compile"), always=False),
    "kernels": Phase(_("comparing the kernels"), _("kernels"), always=False),
    "preflight": Phase(_("trying the longest rows"), _("try")),
    "before": Phase(_("scoring the untouched model"), _("score before")),
    "answers": Phase(_("generating answers to score"), _("answers"), always=False),
    "samples": Phase(_("generating sample answers"), _("samples"), always=False),
    "forgetting": Phase(_("scoring generic text"), _("generic text"), always=False),
    "train": Phase(_("training"), _("train")),
    "evaluate": Phase(_("scoring the validation rows")),
    "pause": Phase(_("scoring the validation rows")),
    "save": Phase(_("saving the model"), _("save")),
    "after": Phase(_("scoring the trained model"), _("score after")),
    "probe": Phase(_("fitting a linear probe"), _("probe"), always=False),
}
"""In the order of a run."""
_PLAIN_TERMINALS = frozenset({"linux", "vt100", "vt102", "vt220"})
"""Consoles whose fonts lack braille and block characters."""
ASCII_SIGNS = {
    "✓": "+", "✗": "x", "■": "#", "▶": ">", "…": "...", "★": "*", "●": "o", "○": ".", "–": "-", "─": "-", "·": "-", "→": "->",
    "←": "<-", "↑": "^", "↓": "v", "•": "-", "—": "-", "−": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "×": "x", "±": "+-",
    "≈": "~", "≤": "<=", "≥": ">=", "°": " ", "µ": "u",
}  # fmt: skip
"""What stands for a sign where there is ASCII only."""


def unicode_terminal() -> bool:
    """Whether the terminal shows more than ASCII, as far as the locale and its type tell; `LORACLE_ASCII=1` says no."""
    if os.environ.get("LORACLE_ASCII", "") not in ("", "0") or os.environ.get("TERM") in _PLAIN_TERMINALS:
        return False
    names = (getattr(sys.__stdout__, "encoding", None) or "", locale.getpreferredencoding(False))
    return any("utf" in name.lower() for name in names)


def sign(character: str) -> str:
    """That character, or what stands for it where the terminal has ASCII only."""
    return character if unicode_terminal() else ASCII_SIGNS.get(character, character)


def number(n: float | None) -> str:
    """A count with thin groups: `1 234`; `–` for an unknown one."""
    return sign("–") if n is None else f"{n:,.0f}".replace(",", " ")


def amount(n: float | None) -> str:
    """A large count in three digits: `22.7 M`."""
    if n is None:
        return sign("–")
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e4)):
        if n >= (factor if unit == "k" else figures.ALMOST * factor):
            scaled = n / (1e3 if unit == "k" else factor)
            return f"{scaled:.0f} {unit}" if scaled >= 100 or unit == "k" else f"{scaled:.3g} {unit}"
    return number(n)


def metric(value: float | None) -> str:
    """A score between 0 and 1, or a loss, in three decimals (a perplexity may be 1e+28); `–` for an unknown one."""
    return sign("–") if value is None else f"{value:.3f}" if abs(value) < 1e12 else f"{value:.3g}"


def rate(value: float | None) -> str:
    """A learning rate: `2e-5`, `1.1e-4`."""
    if value is None:
        return sign("–")
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def size(value: float | None) -> str:
    """Bytes: `8.1 GB`."""
    return sign("–") if value is None else figures.size(value)


def duration(seconds: float | None) -> str:
    """Seconds: `45 s`, `12 min`, `3.5 h`; below ten seconds one decimal, `34 ms` where that would be zero."""
    if seconds is None:
        return sign("–")
    if 0 < seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else figures.duration(seconds)


def seconds_ago(moment: float | None, now: float | None = None) -> str:
    """How long ago a wall-clock time was: `0.8 s ago`, `3 h ago`."""
    if moment is None:
        return sign("–")
    since = (now or time.time()) - moment
    return _("{time} ago").format(time=duration(since if since >= 0.1 else 0.0))


def clock(moment: float | None) -> str:
    """A wall-clock time as people read it: `14:32`."""
    return sign("–") if moment is None else at_time(moment, "%H:%M")


def at_time(moment: float, form: str) -> str:
    """A wall-clock time in that form."""
    try:
        return time.strftime(form, time.localtime(moment))
    except (OverflowError, OSError, ValueError):  # a log may hold anything
        return sign("–")


UNMISTAKABLE = 12 * 3600.0
"""Seconds within which a time on the clock needs no day beside it."""


def end_clock(left: float, now: float | None = None) -> str:
    """When something ends that takes so many seconds more: `14:32`, or with its day, `2026-11-30 14:32`."""
    moment = (now or time.time()) + left
    return at_time(moment, "%H:%M" if left < UNMISTAKABLE else "%Y-%m-%d %H:%M")


def left_words(state: "RunState", left: float, now: float | None = None) -> str:
    """How long a run takes that takes so many seconds more, and when it ends, at most where early stopping may end it sooner."""
    words = _("up to {time} left · ends by {clock}") if state.may_end_sooner else _("about {time} left · ends {clock}")
    words = _("about {time} left · measuring") if state.measuring else words
    return words.format(time=duration(left), clock=end_clock(left, now))


def short_name(name: str) -> str:
    """A run's name without the time it was started at."""
    return re.sub(r"^\d{8}-\d{6}-", "", name)


def status_word(state: "RunState | str") -> str:
    """The state of a run in one word or two: `running`, `died`."""
    status = state if isinstance(state, str) else state.status
    return STATUS_WORDS.get(status, status)


def status_with_sign(status: str) -> str:
    """`status_word` behind a sign, so that colour is never the only carrier."""
    return f"{sign(STATUS_SIGNS.get(status, '·'))} {status_word(status)}"


def phase_word(name: str) -> str:
    """What a worker does in the phase of that name, which may be of a later version."""
    return PHASES[name].words if name in PHASES else name


def phase_words(state: "RunState") -> str:
    """What the worker does now: `scoring the untouched model 40/132`, `training`."""
    words = phase_word(state.phase)
    if state.phase != "train" and state.phase_total:
        words = f"{words} {number(state.phase_done)}/{number(state.phase_total)}"
    if state.phase_limit is not None:
        words += _(", at most {time}").format(time=duration(state.phase_limit))
    return words


def preflight_words(event: Mapping[str, Any]) -> str:
    """What was found before the first step: `the longest rows take 1.2 GB of 8.0 GB (predicted 1.1 GB); ...`."""
    probed, available, predicted = (real(event.get(name)) for name in ("probed", "available", "predicted"))
    disk = event.get("disk")
    disk = disk if isinstance(disk, Mapping) else {}
    said = _(" (predicted {memory})").format(memory=size(predicted)) if predicted else ""
    return _("the longest rows take {probed} of {available} memory{said}; checkpoints and result {needed} of {free} disk").format(
        probed=size(probed),
        available=size(available),
        said=said,
        needed=size(real(disk.get("needed"))),
        free=size(real(disk.get("free"))),
    )


def real(value: object) -> float | None:
    """A finite number as it stands in a log or a report, or nothing."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
    return float(value) if good else None  # type: ignore[arg-type]


def memory_verdict(candidate: "Candidate") -> str:
    """Whether a candidate fits, in words: `fits, 56% free`, `does not fit`."""
    from recommender.recommendation import UNCOUNTED

    memory, too_little = candidate.memory, candidate.removed_by == "does_not_fit"
    if not memory.counted and (candidate.fits or too_little):
        return _(UNCOUNTED[candidate.fits, memory.near])
    if too_little and memory.low <= memory.available < memory.high < 1.3 * memory.low:
        return _("borderline: a trial decides")
    if too_little or (memory.counted and memory.predicted > memory.available):
        return _("does not fit")
    if not candidate.fits:
        return _("cannot run here")
    return _("fits, {share} free").format(share=figures.share(1 - memory.predicted / max(memory.available, 1)))


def memory_sum(memory: "Memory", *, brief: bool = False) -> str:
    """`~5.1 of 11.6 GB`; `~5.1/11.6 GB` where it is to be `brief`. One unit for both, from a tenth of it on. `? of 11.6 GB` where
    no trace has counted it."""
    needed, free = size(memory.predicted), size(memory.available)
    if free.endswith("GB") and memory.predicted >= 1e8 and needed.endswith("MB"):
        needed = f"{memory.predicted / 1e9:.1f}"
    elif needed.split()[-1] == free.split()[-1]:
        needed = needed.split()[0]
    needed = f"~{needed}" if memory.counted else "?"
    return f"{needed}/{free}" if brief else _("{needed} of {free}").format(needed=needed, free=free)


def computing_words(content: object) -> list[str]:
    """What a run computed with, by its report: padding, allocator, products, compiler, kernels; nothing of an older report."""
    from recommender.kernels import ALLOCATOR_TIMES

    if not isinstance(content, Mapping):
        return []
    kept = _("allocator: freed memory is kept ({times} times as fast where we measured it)").format(times=ALLOCATOR_TIMES)
    named = {"kept": kept, "segments": _("allocator: expandable segments")}
    allocator = named.get(str(content.get("allocator")), _("allocator: the system's own"))
    products = [_("matrix products: oneDNN's, faster here than MKL's")] if content.get("products") == "onednn" else []
    compiled = _("torch.compile: on") if content.get("compile") is True else _("torch.compile: off")
    padded = content.get("padded")
    rows = [_("rows: padded to equal lengths") if padded else _("rows: end to end, without padding")]
    kernels = _("kernels: Liger's") if content.get("kernels") == "liger" else _("kernels: torch's own")
    return [*(rows if isinstance(padded, bool) else []), allocator, *products, compiled, kernels]


def against_advice(recorded: str) -> str:
    """An advice that was set aside, without the code of its rule that a plan keeps before it."""
    from tui.error_words import in_words

    return _("Against the advice: {words}").format(words=in_words(re.sub(r"^\w+_\w+: ", "", recorded)))
