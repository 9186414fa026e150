"""One way to train as text: as a card, on one line, and its settings."""

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from engine.text import one_line
from recommender.figures import share
from tui import judged
from tui.i18n import _, plural
from tui.widgets.bars import candidate_bar
from tui.words import amount, duration, memory_sum, memory_verdict, number, rate, sign, size

if TYPE_CHECKING:
    from recommender.recommendation import Candidate, Memory, Settings

NAMES = {"full": _("Full"), "lora": "LoRA", "qlora": "QLoRA"}
RESULTS = {"full": _("one model"), "lora": _("an adapter"), "qlora": _("an adapter")}


def card(
    candidate: "Candidate",
    heading: str,
    whole: int | None,
    width: int,
    *,
    roomy: bool,
    counting: bool = False,
    trying: bool = False,
    before: "Memory | None" = None,
) -> Content:
    """One candidate, judged. `whole` is the model's number of parameters.

    What is being found out is marked: `counting` memory that is not yet counted, where that of `before` stands if there was one,
    `trying` a time that bf16 may shorten.
    """
    hours, old = candidate.hours, ""
    memory = candidate.memory
    if counting and not memory.counted:
        memory, old = before or memory, _(" (counting…)")
    if not candidate.fits:
        fit = (f"{sign('✗')} {memory_verdict(candidate)}", "bold $text-error")
    else:
        fit = (f"{sign('✓')} {memory_verdict(candidate)}", "bold $text-success")
    part = f" ({share(min(candidate.trained_parameters / whole, 1.0))})" if whole else ""
    about = {"measured": "", "estimated": "~", "assumed": "~"}
    provisional = _(" (trying bf16…)") if trying and candidate.settings.precision == "fp32" else ""
    time = f"{about[hours.origin]}{duration(hours.predicted * 3600)}"
    rows = [
        (_("memory"), f"{memory_sum(memory)}{old}"),
        (_("time"), f"{time}{provisional}"),
        (_("trains"), f"{amount(candidate.trained_parameters)}{part}"),
        (_("disk"), size(candidate.disk)),
        (_("result"), RESULTS[candidate.method]),
    ]
    if roomy:
        origin = {"measured": _("measured"), "estimated": _("estimated"), "assumed": _("assumed")}
        between = _("{low} to {high}, {origin}")
        if memory.counted:
            rows.insert(1, ("", between.format(low=size(memory.low), high=size(memory.high), origin=origin[memory.origin])))
        low, high = (duration(h * 3600) for h in (hours.low, hours.high))
        rows.insert(-3, ("", between.format(low=low, high=high, origin=origin[hours.origin])))
        out = _(" (ruled out)") if (candidate.removed_by or "").startswith("D") else ""
        rows.append((_("points"), f"{candidate.points:g}{out}"))
    column = max(cell_len(name) for name, _text in rows) + 1
    lines = [Content.styled(heading, "bold"), Content.assemble(fit)]
    parts, predicted = (memory.parts, memory.predicted) if memory.counted else ({}, 0)
    lines.append(candidate_bar(parts, predicted, memory.available, width))
    if column + cell_len(rows[0][1]) > width:  # a card of 80 columns has no cell to spare, and a unit cut off misleads
        rows[0] = (rows[0][0], f"{memory_sum(memory, brief=True)}{sign('…') if old else ''}")
    if provisional and column + cell_len(time + provisional) > width:
        rows = [(name, f"{time}{sign('…')}" if text == f"{time}{provisional}" else text) for name, text in rows]
    lines += [Content(f"{name}{' ' * (column - cell_len(name))}{text}") for name, text in rows]
    return Content("\n").join(lines)


def heading(candidate: "Candidate", index: int, *, starred: bool, edited: bool) -> str:
    """`2 LoRA ★ advised`, with what else is to be said of it; what is edited first: a card of 80 columns cuts the end."""
    marks = [_("edited")] if edited else []
    marks += [_("advised")] if starred else [_("not advised")] if candidate.fits and candidate.removed_by else []
    star = f"{sign('★')} " if starred else ""
    return f"{index} {NAMES[candidate.method]} {star}{', '.join(marks)}".strip()


def settings_line(settings: "Settings", *, trying: bool = False) -> str:
    """The settings that matter, in one line; `trying` while it is found out if bf16 takes the place of fp32."""
    provisional = _(" (trying bf16…)") if trying and settings.precision == "fp32" else ""
    adapters = _("rank {rank}, alpha {alpha}").format(rank=settings.rank, alpha=settings.alpha)
    parts = [
        adapters if settings.rank and settings.alpha else None,
        f"lr {rate(settings.learning_rate)} {_(settings.schedule)}",
        _("batch {rows}").format(rows=settings.effective_batch),
        plural("{epochs} epoch = {steps}", "{epochs} epochs = {steps}", settings.epochs).format(
            epochs=f"{settings.epochs:g}", steps=_steps(settings)
        ),
        _("length {tokens}").format(tokens=settings.max_length),
        settings.precision + provisional,
        _("gradient checkpointing") if settings.gradient_checkpointing else None,
        _("compiled (torch.compile)") if settings.compile else None,
        _("Liger's kernels") if settings.kernels == "liger" else None,
        _("class weights") if settings.class_weights else None,
        _("early stopping by {metric}").format(metric=judged.words(settings.metric)) if settings.early_stopping else None,
    ]
    return f" {sign('·')} ".join(one_line(p, 80) for p in parts if p)


def _steps(settings: "Settings") -> str:
    return plural("{n} step", "{n} steps", settings.total_steps).format(n=number(settings.total_steps))


def settings_of(candidate: "Candidate", *, edited: bool, trying: bool = False) -> Content:
    """The settings of the chosen method on one line."""
    name = NAMES[candidate.method] + (f" ({_('edited')})" if edited else "")
    return Content.assemble((name, "bold"), "  ", settings_line(candidate.settings, trying=trying))


def estimate(candidate: "Candidate") -> Content:
    """What a candidate would take, on one line."""
    sure = candidate.fits
    verdict = (f"{sign('✓' if sure else '✗')} {memory_verdict(candidate)}", "$text-success" if sure else "$text-error")
    dot = f" {sign('·')} "
    parts = [memory_sum(candidate.memory), f"~{duration(candidate.hours.predicted * 3600)}", _steps(candidate.settings)]
    parts.append(_("trains {count}").format(count=amount(candidate.trained_parameters)))
    return Content.assemble(verdict, dot, dot.join(parts))


def in_line(candidate: "Candidate") -> str:
    """A candidate on one line: method, memory, time, trained parameters, disk."""
    from recommender.recommendation import METHOD_NAMES

    parts = (
        memory_verdict(candidate),
        memory_sum(candidate.memory),
        f"~ {duration(candidate.hours.predicted * 3600)}",
        _("trains {count}").format(count=amount(candidate.trained_parameters)),
        _("disk {size}").format(size=size(candidate.disk)),
    )
    return f"{_(METHOD_NAMES[candidate.method])}: {f' {sign(chr(0xB7))} '.join(parts)}"
