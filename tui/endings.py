"""How a run ended and what to do now, in words that the app and the headless view share."""

from typing import TYPE_CHECKING

from rich.cells import cell_len

from engine.state import STEPPING
from engine.text import one_line
from tui import keys
from tui.cells import fitted
from tui.error_words import in_words
from tui.i18n import _
from tui.words import LIVE

if TYPE_CHECKING:
    from engine.state import Death, RunState

MOST_SAID = 600
"""Characters of a cause, or of a cure."""
DEATHS: "dict[Death, str]" = {
    "memory": _("The worker died unexpectedly; most often because the machine ran out of memory."),
    "disk": _("The worker died unexpectedly; its disk is full."),
    "read_only": _("The worker died unexpectedly; its disk can only be read now, as after an error."),
    "restarted": _("The worker died unexpectedly; its machine has been restarted since."),
    "elsewhere": _("The worker ran on another machine and no longer responds."),
}
CURES: "dict[Death, str]" = {
    "memory": _("Close other programs first."),
    "disk": _("Free some disk space first."),
    "read_only": _("First see that it can be written again."),
    "restarted": "",
    "elsewhere": _("First check there whether it is still running."),
}


def death(state: "RunState") -> str:
    """What most likely ended a worker that said nothing, and what to do before it is resumed."""
    return f"{DEATHS[state.death]} {CURES[state.death]}".rstrip()


def ending(state: "RunState", cells: int | None = None) -> str:
    """How a run ended and which keys go on; empty while it goes on.

    Of a run that failed or was refused in about `cells` cells: the cause gives way, and the pane that has all of it is named.
    The keys stay.
    """
    if state.status in LIVE:
        return ""
    end = state.end or {}
    cause, cure = (one_line(in_words(one_line(end.get(part) or "", 2_000)), MOST_SAID) for part in ("cause", "cure"))
    at = _(" at the checkpoint of step {step}").format(step=state.checkpoint) if state.checkpoint else ""
    resume = keys.name("resume", "r")
    match state.status:
        case "done":
            return _("Done: {key} shows the result.").format(key=keys.name("result", "enter"))
        case "stopped":
            return _("Stopped{where}: {key} resumes it.").format(where=at, key=resume)
        case "failed":
            newest, anew = _("{key} tries again from the newest checkpoint."), _("{key} tries again from the beginning.")
            last = [(newest if state.checkpoint else anew).format(key=resume)]
            change, saner = keys.name("again-changed", "e"), one_line(end.get("setting") or "", 60)
            if saner:  # as it is, it would end the same way
                words = _("{key} opens its plan with {setting}. {resume} tries the same again.")
                last = [words.format(key=change, setting=saner, resume=resume)]
            else:
                last.append(_("{key} changes the plan for a new run.").format(key=change))
            said = f"{cause or _('The worker gave no cause.')} {cure}".rstrip()
            # Where there is a saner setting its key is among the keys, without a command of two lines.
            return _within(cells, _("Failed: {words}"), said, last, shorter=cause if saner else said)
        case "refused":
            said = f"{cause} {cure}".rstrip()
            last = [_("{key} changes the plan for a new run.").format(key=keys.name("again-changed", "e"))]
            if state.checkpoint:  # it had begun, and what it is refused for has changed since
                last.insert(0, _("{key} tries again from the newest checkpoint.").format(key=resume))
            return _within(cells, _("Refused: {words}"), said, last, shorter=said)
        case "dead":
            return f"{death(state)} {_resuming(state)}"
    return ""


def _within(cells: int | None, whole: str, said: str, last: list[str], *, shorter: str) -> str:
    """`said` and the keys in `last`, put into `whole`; in so many cells `shorter`, cut, and the pane that has all of it."""
    if cells is not None and cell_len(whole.format(words=" ".join([said, *last]))) > cells:
        last = [_("({key} shows all of it.)").format(key=keys.name("pane-7", "7")), *last]
        said = fitted(shorter, max(cells - cell_len(whole.format(words=" ".join(["", *last]))), 0))
    return whole.format(words=" ".join([said, *last]))


def _resuming(state: "RunState") -> str:
    resume = keys.name("resume", "r")
    if state.checkpoint:
        return _("{key} resumes the run from the checkpoint of step {step}.").format(key=resume, step=state.checkpoint)
    return _("{key} resumes the run; it had no checkpoint yet and begins again.").format(key=resume)


def leaves_at_once(state: "RunState") -> str:
    """What is kept of a run that is asked to stop while it takes no steps; empty while it does: it saves then."""
    if state.phase in STEPPING:
        return ""
    if state.checkpoint:
        return _("Stopping: no step is under way; the checkpoint of step {step} is kept.").format(step=state.checkpoint)
    return _("Stopping: no step was taken yet, so there is nothing to save.")
