"""What a model says to the same few texts while it learns, as text."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from textual.content import Content

from tui.cells import one_line, padded
from tui.i18n import _
from tui.words import number, real, sign

if TYPE_CHECKING:
    from engine.state import RunState


def samples(state: "RunState", width: int) -> Content:
    """What the model says to the same few texts, now and at first; a line of `width` cells each where answers are short."""
    found = [state.samples[n] for n in sorted(state.samples)]
    lines: list[Content] = []
    newest = _newest(found)
    for sample in found:
        if sample.get("split") == "validation":
            lines.append(_judged(sample, width, number=state.info.get("labels") == []))
            continue
        lines.append(Content.styled(one_line(sample.get("prompt"), 160), "bold"))
        old = sample.get("split") == "before" and newest > 0
        lines.append(_told(_("at first") if old else _("now"), sample.get("answer")))
        if sample.get("wanted"):
            lines.append(_told(_("wanted"), sample.get("wanted")))
        if sample.get("first") != sample.get("answer"):
            lines.append(_told(_("at first"), sample.get("first")))
    return Content("\n").join(lines)


def _judged(sample: dict[str, Any], width: int, *, number: bool) -> Content:
    """An answer that is right or wrong: `✗ delivery (wanted payment)  I typed my gift card code …`; a `number` is near or far."""
    answer, wanted = one_line(sample.get("answer"), 40), one_line(sample.get("wanted"), 40)
    first = one_line(sample.get("first"), 40)
    if number:
        said, style = answer + _(" (wanted {answer})").format(answer=wanted), ""
    elif answer == wanted:
        said, style = f"{sign('✓')} {answer}", "$text-success"
        said += _(" (was {first})").format(first=first) if first != answer else ""
    else:
        said, style = f"{sign('✗')} {answer}" + _(" (wanted {answer})").format(answer=wanted), "$text-warning"
    line = Content.assemble((padded(said, 34), style), "  ", (one_line(sample.get("prompt"), 300), "$text-muted"))
    return line.truncate(max(width, 20), ellipsis=True)


def _told(label: str, text: Any) -> Content:
    return Content.assemble((f"  {padded(label, 9)}", "$text-muted"), one_line(text, 300))


def title(state: "RunState") -> str:
    """When the model said so."""
    step = _newest(state.samples.values())
    return _("samples at step {step}").format(step=number(step)) if step else _("samples before training")


def _newest(samples: Iterable[dict[str, Any]]) -> int:
    """The last step that one of them was written at; 0 before any."""
    return int(max((real(s.get("step")) or 0 for s in samples), default=0))
