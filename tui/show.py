"""Runs and report as text for a terminal. Everything foreign is cleaned and never markup."""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine.groups import Group
from engine.rundir import RunDirectory
from engine.text import one_line
from recommender.errors import InputError
from tui import judged
from tui.error_words import in_words
from tui.i18n import _
from tui.show_table import headed_table
from tui.words import against_advice, computing_words, duration, metric, number, sign, size, status_word

MOST_METRICS = 3
"""Beside which a gain with its interval fits on 80 columns."""
ROWS = {"majority": _("constant answer"), "probe": _("linear probe"), "before": _("before"), "after": _("after")}

UNBOUND = 1_000
"""Columns where there is no terminal that has some."""
SAMPLE_LENGTH = 400
"""Characters shown of a prompt or an answer; the report keeps more."""


class Screen(Console):
    """Rich's console, which by itself ends the program with exit code 1 when its reader goes away, pads what is piped, and takes
    brackets in a text for markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)
        if not self.is_terminal:
            self.file = cast("IO[str]", _Trimmed(self.file))

    def on_broken_pipe(self) -> None:
        """Go on in silence: what is being done does not depend on who reads."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class _Trimmed:
    """A stream whose lines end where their text does: what is piped is compared, pasted and cut."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(re.sub(r" +(?=\n)", "", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def whole(file: Path) -> Iterator[None]:
    """While what a file holds is shown: it may be damaged anywhere.

    Raises:
        InputError: it is.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise InputError(f"{file}: is damaged; what could be read is shown above.") from None


def report(content: Mapping[str, Any], run: RunDirectory, console: Console) -> None:
    """The before/after report.

    Raises:
        InputError: it is damaged.
    """
    with whole(run.report_file):
        _report(content, run, console)


def _report(content: Mapping[str, Any], run: RunDirectory, console: Console) -> None:
    scores = content.get("scores") or {}
    console.print()
    words = _("{name}: before and after, on {rows} held-out rows")
    held_out = (content.get("rows") or {}).get("held_out")
    console.print(Text(words.format(name=one_line(content.get("name")), rows=number(held_out)), style="bold"))
    if note := run.note():
        console.print(Text(f"“{note}”", style="dim"))
    console.print(_scores(scores, content.get("gains") or {}))
    listed(console, "", [in_words(str(s)) for s in content.get("statements") or []])
    left_out = [str(s) for s in content.get("left_out") or []]
    listed(console, _("Left out or cut"), [in_words(line) for line in left_out])
    console.print()
    _per_class(scores, console)
    samples(content.get("samples"), console)
    for line in [_cost(content), *computing_words(content.get("computing"))]:
        console.print(Text(line, style="dim"))
    against = [against_advice(str(line)) for line in content.get("overrides") or []]
    for line in [*(content.get("warnings") or []), *(content.get("recoveries") or []), *against]:
        if line not in left_out:  # told above
            console.print(Text(f"! {one_line(in_words(str(line)), 400)}", style="dim"))
    console.print(Text(f"{_('Model')}     {one_line(run.model, 1000)}", overflow="fold"))
    if spare := run.spare():
        words = _("{size} of checkpoints in {folder} are no longer needed.")
        console.print(Text(words.format(size=size(spare), folder=one_line(run.checkpoints, 1000)), "dim", overflow="fold"))


def _scores(scores: Mapping[str, Any], gains: Mapping[str, Any]) -> Table:
    """Every metric of the baselines, before and after; beside few of them what the result gained over each."""
    table = headed_table()
    table.add_column("", no_wrap=True)
    names = judged.shown(scores.values())
    for name in names:
        table.add_column(judged.words(name), justify="right", no_wrap=True)
    with_gain = len(names) <= MOST_METRICS  # the sentences below the table tell the gains too
    if with_gain:
        head = _("difference from it (95% interval)") if names and judged.falls(names[0]) else _("gain over it (95% interval)")
        table.add_column(head, no_wrap=True)
    for split, words in ROWS.items():
        if split in scores:
            style = "bold" if split == "after" else ""
            cells = [Text(words, style=style), *(Text(metric(scores[split].get(name)), style=style) for name in names)]
            gain = (gains.get(split) or {}).get(names[0])
            cells += [Text(judged.gained(names[0], gain) if gain else "")] if with_gain else []
            table.add_row(*cells)
    return table


def _cost(content: Mapping[str, Any]) -> str:
    """The best step, peak memory and time, with what was predicted of them."""
    memory, seconds = content.get("memory") or {}, content.get("seconds") or {}
    best = _("Best at step {step} of {all}").format(step=content.get("best_step"), all=content.get("steps"))
    early = f", {_('stopped early')}" if content.get("stopped_early") else ""
    told = {"predicted": _("predicted {size}"), "probed": _("tried {size}")}
    before = [words.format(size=size(memory[name])) for name, words in told.items() if memory.get(name)]
    peak = _("peak memory {size}").format(size=size(memory.get("peak"))) + (f" ({', '.join(before)})" if before else "")
    planned = _(" (predicted {time})").format(time=duration(seconds.get("predicted"))) if seconds.get("predicted") else ""
    return f" {sign('·')} ".join((f"{best}{early}", peak, f"{duration(seconds.get('total'))}{planned}"))


def samples(content: Any, console: Console) -> None:
    """Answers before and after side by side, under the prompt both go on from."""
    found = [s for s in content if isinstance(s, Mapping)] if isinstance(content, list) else []
    if not found:
        return
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="dim")
    for column in (_("prompt"), _("before"), _("after")):
        table.add_column(column, ratio=1, overflow="fold")
    for sample in found:
        said = (sample.get(part) for part in ("prompt", "before", "after"))
        table.add_row(*(Text("" if text is None else one_line(text, SAMPLE_LENGTH) or _("(nothing)")) for text in said))
    console.print(Text(_("Sample answers (greedy)"), style="bold"))
    console.print(table)


def _per_class(scores: Mapping[str, Any], console: Console) -> None:
    after = scores.get("after")
    if not after or not 0 < len(after.get("per_class") or ()) <= 30:
        return
    before = {c["label"]: c for c in (scores.get("before") or {}).get("per_class", [])}
    table = headed_table()
    table.add_column(_("class"))
    for column in (_("spans") if "span_f1" in after else _("rows"), _("F1 before"), _("F1 after"), _("precision"), _("recall")):
        table.add_column(column, justify="right", no_wrap=True)
    confusion = after.get("confusion")
    if confusion:
        table.add_column(_("often mistaken for"))
    labels = [c["label"] for c in after["per_class"]]
    for i, c in enumerate(after["per_class"]):
        wrong = [(n, labels[j]) for j, n in enumerate(confusion[i]) if j != i and n] if confusion else []
        most = max(wrong, default=None)
        mixed_up = [Text(f"{one_line(most[1], 40)} ({most[0]})" if most else "")] if confusion else []
        first = before.get(c["label"])
        values = [first["f1"] if first else None, c["f1"], c["precision"], c["recall"]]
        if not c["rows"]:  # nothing is known of it
            values = [None] * len(values)
        table.add_row(Text(one_line(c["label"], 40)), number(c["rows"]), *map(metric, values), *mixed_up)
    console.print(table)
    console.print()


_LEAST_HELP = (2, 3, 5, 4)
"""Columns of the table of runs that go first where it is narrow: method (it stands in most names), progress, age, result."""


def run_table(runs: Sequence[RunDirectory], console: Console) -> None:
    """Runs with their state, one a line; where that is too wide, without what helps least, for names are what one types."""
    heads = (_("run"), _("state"), _("method"), _("progress"), _("result"), _("age"))
    rows: list[tuple[str, ...]] = []
    group: Path | None = None
    for run in runs:
        if run.group is not None and run.group != group:
            rows.append(_group_row(Group(run.group)))
        group = run.group
        f = run_facts(run)
        first = next(iter(f["scores"]), None)
        result = f"{metric(f['scores'][first])} {judged.words(first)}" if first else ""
        steps = f"{f['step']}/{f['total_steps']}" if f["total_steps"] else ""
        age = age_of(f["started"]) if f["started"] else ""
        name = one_line(f["name"]) if group is None else f"  {one_line(run.path.name)}"
        rows.append((name, status_word(f["state"]), one_line(f["method"] or ""), steps, result, age))
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUND  # whoever reads a pipe wants names whole
    wide = [2 + max(cell_len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
    shown = list(range(len(heads)))
    for column in _LEAST_HELP:
        if sum(wide[n] for n in shown) - 2 > console.width:
            shown.remove(column)
    table = headed_table()
    for n in shown:
        table.add_column(heads[n], no_wrap=n > 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[n]) for n in shown))
    console.print(table)


KINDS = {"compare": _("comparison"), "pilot": _("pilot"), "": ""}


def age_of(begun: float) -> str:
    """How long ago that was; no time at all where the clock has been set back since."""
    return duration(max(time.time() - begun, 0.0))


def _group_row(group: Group) -> tuple[str, ...]:
    """A comparison or a pilot, above its runs."""
    try:
        content = group.content()
    except InputError:
        content = {"kind": "", "plans": {}}
    age = age_of(content["created"]) if "created" in content else ""
    return one_line(group.name), status_word(group.status()), KINDS[content["kind"]], "", "", age


def run_facts(run: RunDirectory) -> dict[str, Any]:
    """What the list of runs says about one; a damaged run says so."""
    try:
        state = run.state()
        method: str | None = state.info.get("method") or run.plan().method
    except InputError:
        return (
            {"name": run.name, "path": str(run.path), "state": "damaged", "method": None}
            | dict.fromkeys(("group", "step", "total_steps", "started"))
            | {"scores": {}}
        )
    after = state.scores("after") or {}
    return {
        "name": run.name,
        "path": str(run.path),
        "group": run.group.name if run.group is not None else None,
        "state": state.status,
        "method": method,
        "step": state.step,
        "total_steps": state.total_steps,
        "scores": {name: after[name] for name in judged.shown([after])},
        "started": state.started,
    }


def listed(console: Console, title: str, lines: Sequence[str]) -> None:
    """Sentences under a heading; nothing at all where there are none."""
    if not lines:
        return
    console.print()
    if title:
        console.print(Text(title, style="bold"))
    for line in lines:
        console.print(Padding(Text(one_line(line, 1000)), (0, 0, 0, 2)))
