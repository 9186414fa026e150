"""The recommendation as text: verdict, reasons, warnings, what would change it, settings."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text
from textual.content import Content

from engine.text import one_line
from tui.goal import in_words
from tui.widgets.bars import PARTS, candidate_bar
from tui.words import amount, duration, memory_sum, memory_verdict, number, rate, share, sign, size

if TYPE_CHECKING:
    from recommender.facts import Goal
    from recommender.questions import Answer, Question
    from recommender.recommendation import Candidate, Recommendation, Settings

NAMES = {"full": "Full", "lora": "LoRA", "qlora": "QLoRA"}
RESULTS = {"full": "one model", "lora": "adapter", "qlora": "adapter"}


def verdict(recommendation: "Recommendation") -> Content:
    """The answer in one sentence."""
    match recommendation.verdict:
        case "not_yet":
            return Content.styled("Not yet: the honest advice is not to fine-tune now.", "$text-warning")
        case "does_not_fit":
            late = any(c.fits and c.removed_by == "over_time_budget" for c in recommendation.candidates)
            said = "Nothing finishes in the time you allow." if late else "Nothing fits this machine with what is free now."
            return Content.styled(said, "$text-error")
        case method:
            second = f" Second: {NAMES[recommendation.runner_up]}." if recommendation.runner_up else ""
            sure = {"clear": "clearly", "likely": "likely the best", "close": "a close call"}[recommendation.confidence]
            return Content(f"Recommended: {NAMES[method]} ({sure}).{second} Start with enter, or choose 1 2 3.")


def now(recommendation: "Recommendation") -> Content:
    """The answer in a few words."""
    words = {"not_yet": "not to fine-tune yet", "does_not_fit": "nothing fits this machine"}
    method = NAMES.get(recommendation.verdict)
    answer = f"{method} ({recommendation.confidence})" if method else words[recommendation.verdict]
    return Content.assemble(("Your goal", "bold"), f"\nAdvice now: {answer}")


def question(asked: "Question", *, first: bool) -> Content:
    """A question as a heading among its answers."""
    return Content.styled(("" if first else "\n") + asked.sentence, "bold $text")


def answer(asked: "Question", one: "Answer") -> Content:
    """One answer with what it would lead to; the one that counts is marked."""
    mark = f"({sign('●')})" if one is asked.now else "( )"
    leads = f"  {sign('→')} {one.leads_to}" if one in asked.news else ""
    return Content.assemble(f" {mark} {one.words}", (leads, "$text-accent"))


def goal(said: "Goal", questions: "Iterable[Question]") -> Content:
    """What was said about the goal, or that saying something would change the advice; empty where neither is so."""
    words = in_words(said)
    if words:
        return Content(f"Goal: {'; '.join(words)}. g changes it.")
    if not any(q.matters for q in questions):
        return Content("")
    methods = dict.fromkeys(NAMES[a.verdict] for q in questions for a in q.news if not a.changes and a.verdict in NAMES)
    return Content(f"g: what you want could {'make it ' + ' or '.join(methods) if methods else 'change this advice'}.")


def card(candidate: "Candidate", index: int, starred: bool, whole: int | None, width: int, *, roomy: bool) -> Content:
    """One candidate, judged. `whole` is the model's number of parameters."""
    memory = candidate.memory
    star = f" {sign('★')} advised" if starred else " not advised" if candidate.fits and candidate.removed_by else ""
    if not candidate.fits:
        fit = (f"{sign('✗')} {memory_verdict(candidate)}", "bold $text-error")
    else:
        fit = (f"{sign('✓')} {memory_verdict(candidate)}", "bold $text-success")
    part = f" ({share(min(candidate.trained_parameters / whole, 1.0))})" if whole else ""
    lines = [
        Content.assemble((f"{index} {NAMES[candidate.method]}", "bold"), (star, "$text-accent" if starred else "$text-warning")),
        Content.assemble(fit),
        candidate_bar(memory.parts, memory.predicted, memory.available, width),
        Content(f"{'' if memory.origin == 'measured' else '~ '}{memory_sum(candidate)}"),
        Content(f"trains {amount(candidate.trained_parameters)}{part}"),
        Content(f"time   ~ {duration(candidate.hours.predicted * 3600)}"),
        Content(f"disk   {size(candidate.disk)}"),
    ]
    if roomy:
        hours = candidate.hours
        lines += [
            Content(f"memory {size(memory.low)} to {size(memory.high)}, {memory.origin}"),
            Content(f"time   {duration(hours.low * 3600)} to {duration(hours.high * 3600)}, {hours.origin}"),
            Content(f"result {RESULTS[candidate.method]}, points {candidate.points:g}"),
        ]
    return Content("\n").join(lines)


def legend(recommendation: "Recommendation") -> Content:
    """What the letters of the memory bars mean."""
    used = {name for c in recommendation.candidates for name, size in c.memory.parts.items() if size}
    letters = " ".join(f"{letter} {name}" for letter, name, _ in PARTS if name in used)
    return Content(f"{letters} | limit")


def why(recommendation: "Recommendation") -> Table:
    """Reasons with their sources. That a candidate fits stands on its card."""
    table = list_of("Why")
    for n, reason in enumerate((r for r in recommendation.reasons if r.code != "fits"), 1):
        table.add_row(Text(str(n)), Text(one_line(reason.text, 400)))
        if reason.source:
            table.add_row("", Text(one_line(reason.source, 300), "dim", no_wrap=True, overflow="ellipsis"))
    if recommendation.instead:
        _list(table, "Instead", sign("→"), recommendation.instead)
    return table


def more(recommendation: "Recommendation", chosen: str) -> Table:
    """Warnings, what would change the verdict, and the settings of the chosen method."""
    settings = settings_line(recommendation.candidate(chosen).settings)
    table = list_of(f"Settings of {NAMES[chosen]}")
    table.add_row("", Text(settings))
    if recommendation.warnings:
        _list(table, "Worth knowing", "!", [w.text for w in recommendation.warnings])
    if recommendation.would_change:
        _list(table, "It would change to", sign("·"), recommendation.would_change)
    return table


def list_of(heading: str) -> Table:
    """A headed list in two columns, so that long sentences hang from their number."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=2, justify="right")
    table.add_column(overflow="fold", ratio=1)
    table.add_row("", Text(heading, "bold"))
    return table


def _list(table: Table, heading: str, mark: str, texts: Iterable[str]) -> None:
    table.add_row("", "")
    table.add_row("", Text(heading, "bold"))
    for text in texts:
        table.add_row(Text(mark), Text(one_line(text, 400)))


def settings_line(settings: "Settings") -> str:
    """The settings that matter, in one line."""
    parts = [
        f"rank {settings.rank}, alpha {settings.alpha}" if settings.rank else None,
        f"lr {rate(settings.learning_rate)} {settings.schedule}",
        f"batch {settings.effective_batch}",
        f"{settings.epochs:g} epochs = {number(settings.total_steps)} steps",
        f"length {settings.max_length}",
        settings.precision,
        "gradient checkpointing" if settings.gradient_checkpointing else None,
        "class weights" if settings.class_weights else None,
        f"early stopping by {settings.metric}" if settings.early_stopping else None,
    ]
    return " · ".join(one_line(p, 80) for p in parts if p)


def against(text: str) -> Content:
    """What stands against a start that can still be had."""
    return Content("\n").join(
        [
            Content.styled("The advice is not to start this run.", "bold"),
            Content(""),
            Content(one_line(text.removesuffix("--anyway runs it all the same."), 1_500)),
            Content(""),
            Content("Starting anyway is possible and is recorded in the plan."),
        ]
    )
