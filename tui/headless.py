"""Following a run without the app: a live line in a terminal, plain lines in a log, or JSON lines."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from engine.events import CHUNK, Event, EventTail
from engine.groups import Begin, Group
from engine.rundir import RunDirectory, settle
from engine.state import FINISHED, RunState
from engine.text import clean, json_line, one_line
from recommender.errors import Exit
from tui import judged, show
from tui.cells import padded
from tui.endings import death
from tui.error_words import in_words, warning_words
from tui.i18n import _
from tui.stopping import stopping_by_signals
from tui.words import clock, left_words, number, phase_words, preflight_words, sign

POLL_SECONDS = 0.25
LINE_EVERY = 10.0
"""Seconds between progress lines where there is no terminal to redraw."""


def follow(begin: Begin, *, as_json: bool, in_group: bool = False) -> int:
    """Start a run with `begin`, watch it, and answer for it: Ctrl-C and what `stopping.SIGNALS` names stop it with a checkpoint.

    Returns the run's exit code. A run `in_group` says only what went wrong with it at its end: the report is that of the
    group.

    Raises:
        LoracleError: it cannot be started.
        KeyboardInterrupt: a run `in_group` had ended when the signal came, so that the group, and not it, is to stop.
    """
    with stopping_by_signals() as stopping:
        run, offset = begin()
        stopping.found(run)
        code = watch(run, as_json=as_json, offset=offset, in_group=in_group, driving=True)
    if in_group and stopping.too_late:
        raise KeyboardInterrupt
    # The worker cannot tell who asked; the code says by which signal this process was told.
    if code in (Exit.INTERRUPTED, Exit.TERMINATED) and stopping.asked:
        return Exit.INTERRUPTED if stopping.asked[0] == signal.SIGINT else Exit.TERMINATED
    return code


def leave(begin: Begin, told: Callable[[RunDirectory], None]) -> int:
    """Start a run with `begin` and leave it running; whoever presses Ctrl-C meanwhile is told that it runs.

    Raises:
        LoracleError: it cannot be started.
    """
    with stopping_by_signals() as stopping:
        told(begin()[0])
    return Exit.INTERRUPTED if stopping.asked else Exit.DONE


def attach_to(run: RunDirectory, *, as_json: bool) -> int:
    """Watch any run. Leaving with Ctrl-C leaves it alone."""
    try:
        return watch(run, as_json=as_json)
    except KeyboardInterrupt:
        return goes_on(run)


def goes_on(left: RunDirectory | Group) -> int:
    """Told to whoever watched and leaves."""
    words = _("{name} continues in the background. Watch it: loracle attach {name}")
    print("\n" + words.format(name=left.shown), file=sys.stderr)
    return Exit.DONE


def begun(started: RunDirectory | Group, *, as_json: bool) -> None:
    """Told to whoever starts one and leaves it running."""
    if as_json:
        print(json_line({"kind": "started", "name": started.name, "path": str(started.path)}))
    else:
        print(_("{name} is running. Watch it: loracle attach {name}").format(name=started.shown))


def watch(run: RunDirectory, *, as_json: bool, offset: int = 0, in_group: bool = False, driving: bool = False) -> int:
    """Show what happens until the run's worker has ended; the run's exit code.

    Raises:
        OSError: the JSON cannot be written; not where this process is `driving` the run, which goes on.
    """
    state = RunState()
    tail = EventTail(run.events)
    if offset:  # what happened before is known already: fold it silently
        _fold(run, state, offset)
        tail = EventTail(run.events, offset)
        state.status, state.phase = "starting", "starting"
    view: _View = _JsonView(driving=driving) if as_json else _view()

    def read() -> None:
        while events := tail.poll():
            for event in events:
                state.apply(event)
                view.event(event, state)

    with view:
        while True:
            read()
            settle(run, state, read)
            view.tick(state)
            if not _goes_on(state):
                break
            time.sleep(POLL_SECONDS)
    return _closing(run, state, as_json=as_json, in_group=in_group)


def _goes_on(state: RunState) -> bool:
    return state.status not in FINISHED and state.status != "dead"


def _fold(run: RunDirectory, state: RunState, offset: int) -> None:
    """Take in the events before `offset`, some megabytes at a time."""
    tail = EventTail(run.events)
    for begin in range(0, offset, CHUNK):
        for event in tail.poll(min(CHUNK, offset - begin)):
            state.apply(event)


def _closing(run: RunDirectory, state: RunState, *, as_json: bool, in_group: bool) -> int:
    """The last words, on standard error but for the report itself."""
    narration = show.Screen(stderr=True)
    if state.status == "dead" and not run.path.is_dir():
        words = _("The folder of the run, {path}, was moved or removed. `loracle attach` with its new path shows it.")
        narration.print(Text(words.format(path=clean(run.path))))
        return Exit.FAILED
    if state.status == "dead":
        last = clean(run.last_words())
        narration.print(Text(f"{run.shown}: {death(state)}"))
        if last:
            narration.print(Text(f"{_('The end of its log:')}\n{last}", style="dim"))
        anew, on = _("Start again from the beginning"), _("Resume from the newest intact checkpoint")
        narration.print(Text(f"{anew if state.checkpoint is None else on}: loracle resume {run.shown}"))
        return Exit.FAILED
    end = state.end or {}
    if state.status == "done":
        content = run.report()
        if content is not None and not as_json and not in_group:
            show.report(content, run, show.Screen())
        return Exit.DONE
    cause, cure = (in_words(clean(end.get(part) or "")) for part in ("cause", "cure"))
    if state.status in ("failed", "refused"):
        narration.print(Text(f"loracle: {cause} {cure}".strip()))
        if state.status == "refused" and state.checkpoint:  # it had begun, and what it is refused for has changed since
            words = _("The checkpoint of step {step} is kept: once this is put right, `loracle resume {name}` continues it.")
            narration.print(Text(words.format(step=state.checkpoint, name=run.shown)))
    elif not in_group:
        narration.print(Text(_("{name}: {cause}. {cure}").format(name=run.shown, cause=cause, cure=cure)))
    code = end.get("code")
    return int(code) if isinstance(code, int) else Exit.FAILED


class _View:
    """What is shown of a run while it goes on."""

    def __enter__(self) -> "_View":
        return self

    def __exit__(self, *problem: object) -> None:
        return None

    def event(self, event: Event, state: RunState) -> None:
        """One event happened; `state` includes it."""

    def tick(self, state: RunState) -> None:
        """Time passed."""


class _JsonView(_View):
    """Every event as it was written."""

    def __init__(self, *, driving: bool) -> None:
        self._driving = driving

    def event(self, event: Event, state: RunState) -> None:
        print_json(json_line(event), driving=self._driving)


def print_json(line: str, *, driving: bool) -> None:
    """Print it at once.

    Raises:
        OSError: the reader went away. Who is `driving` a run, or several, goes on without: all of it is in their folders.
    """
    try:
        print(line, flush=True)
    except OSError:
        if not driving:
            raise
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of this process


class _LineView(_View):
    """Lines on standard error: milestones as they happen, progress now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = 0.0
        self._phases: set[str] = set()
        self._line = ""

    def event(self, event: Event, state: RunState) -> None:
        try:
            line = milestone(event)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):  # a log may hold anything
            return
        if line is not None:
            self._print(line)

    def tick(self, state: RunState) -> None:
        now = time.monotonic()
        # A phase that comes again and again, as an evaluation does, is announced once.
        if not _goes_on(state) or (now - self._said < LINE_EVERY and state.phase in self._phases):
            return
        self._said = now
        self._phases.add(state.phase)
        line = progress(state)
        if line != self._line:  # a long step or a long load is said once
            self._line = line
            self._print(line)

    def _print(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(Text(line), soft_wrap=True)


class _LiveView(_LineView):
    """The same lines, with one below them that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, refresh_per_second=4, transient=True, auto_refresh=False)

    def __enter__(self) -> "_View":
        self._live.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._live.stop()

    def tick(self, state: RunState) -> None:
        if _goes_on(state):
            self._live.update(Text(progress(state), no_wrap=True, overflow="ellipsis"), refresh=True)


def _view() -> _View:
    console = show.Screen(stderr=True)
    # Where a build service asks for colours (FORCE_COLOR), Rich takes its log for a terminal, and would redraw in it for hours.
    redrawn = console.file.isatty() and not console.is_dumb_terminal
    return _LiveView(console) if console.is_terminal and redrawn else _LineView(console)


def milestone(event: Event) -> str | None:
    """A line worth keeping about an event, or `None`."""
    when = clock(event.get("time"))
    match event["kind"]:
        case "run":
            return f"{when}  {_run_words(event)}"
        case "evaluation":
            split = str(event.get("split"))
            name = _("step {step}").format(step=event.get("step")) if split == "validation" else SPLITS.get(split, split)
            return f"{when}  {padded(one_line(name), 15)}  {judged.in_line(event.get('metrics') or {})}"
        case "preflight":
            return f"{when}  {preflight_words(event)}"
        case "warning":
            return f"{when}  ! {warning_words(event)}"
        case "recovery":
            return f"{when}  ! {warning_words(event) or _('recovered')}"
    return None


SPLITS = show.ROWS | {"generic_before": _("generic text"), "generic_after": _("generic text")}


def _run_words(event: Event) -> str:
    rows = _("{train} training rows, {validation} validation rows, {held_out} held-out rows").format(
        **{use: number(event.get(f"{use}_rows")) for use in ("train", "validation", "held_out")}
    )
    step = event.get("resumed_from")
    words = _("; continues from step {step} ({how})")
    again = words.format(step=step, how=in_words(one_line(event.get("resume"), 300))) if step else ""
    words, method = _("{method} on {device}: {rows}"), one_line(event.get("method"))
    return words.format(method=_(method), device=one_line(event.get("device"), 40), rows=rows) + again


def progress(state: RunState) -> str:
    """Where the run is, in one line."""
    if state.phase != "train" or not state.total_steps:
        return f"{phase_words(state)} {sign('…')}"
    parts = [_("step {now}/{all}").format(now=state.step, all=state.total_steps)]
    parts.append(_("epoch {epoch}").format(epoch=f"{state.epoch:.1f}"))
    if state.losses:
        parts.append(_("loss {loss}").format(loss=f"{state.losses[-1][1]:.3f}"))
    if state.tokens_per_second:
        parts.append(_("{count} tokens/s").format(count=number(state.tokens_per_second)))
    if state.seconds_left is not None:
        parts.append(left_words(state, state.seconds_left))
    return f" {sign('·')} ".join(parts)
