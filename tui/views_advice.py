"""The recommendation as text: verdict, reasons, warnings, what would change it; what a start or a pilot would do."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text
from textual.content import Content

from engine.text import one_line
from tui import keys
from tui.advice_words import STAGES, cautions, no_method
from tui.error_words import in_words as translated
from tui.goal import in_words
from tui.i18n import _, plural
from tui.views_candidate import NAMES, in_line
from tui.widgets.bars import PARTS
from tui.words import duration, sign, size

if TYPE_CHECKING:
    from recommender.explain import Step
    from recommender.facts import Goal
    from recommender.questions import Answer, Question
    from recommender.recommendation import Caution, Recommendation
    from tui.work_plan import Advice

def verdict(recommendation: "Recommendation", chosen: str = "") -> Content:
    """The answer in one sentence, and what a start would start: the `chosen` method where that is another one."""
    match recommendation.verdict:
        case "not_yet" | "does_not_fit" as why_not:
            return Content.styled(no_method(recommendation), "$text-warning" if why_not == "not_yet" else "$text-error")
        case method:
            second = _(" Second: {method}.").format(method=NAMES[recommendation.runner_up]) if recommendation.runner_up else ""
            close = _("a close call: {pilot} tries both").format(pilot=keys.name("pilot", "p"))
            sure = {"clear": _("clearly"), "likely": _("likely the best"), "close": close}
            said = _("Recommended: {method} ({sure}).").format(method=NAMES[method], sure=sure[recommendation.confidence])
            start = keys.name("start", "enter")
            begins = start[:1].upper() + start[1:] if len(start) > 1 else start  # a sentence; a letter alone is another key so
            other = NAMES[chosen] if chosen not in ("", method) else None
            starts = _("{start} starts it.") if other is None else _("{start} starts {method}.")
            return Content(f"{said}{second} {starts.format(start=begins, method=other)}")


def now(recommendation: "Recommendation") -> Content:
    """The answer in a few words."""
    words = {"not_yet": _("not to fine-tune yet"), "does_not_fit": _("nothing fits this machine")}
    method = NAMES.get(recommendation.verdict)
    sure = {"clear": _("clearly"), "likely": _("likely"), "close": _("a close call")}[recommendation.confidence]
    answer = f"{method} ({sure})" if method else words[recommendation.verdict]
    return Content.assemble((_("Your goal"), "bold"), "\n", _("Advice now: {answer}").format(answer=answer))


def question(asked: "Question", *, first: bool) -> Content:
    """A question as a heading among its answers."""
    return Content.styled(("" if first else "\n") + _(asked.sentence), "bold $text")


def answer(asked: "Question", one: "Answer") -> Content:
    """One answer with what it would lead to; the one that counts is marked."""
    mark = f"({sign('●')})" if one is asked.now else "( )"
    leads = f"  {sign('→')} {one.leads_to}" if one in asked.news else ""
    return Content.assemble(f" {mark} {_(one.words)}", (leads, "$text-accent"))


def goal(said: "Goal", questions: "Iterable[Question]") -> Content:
    """What was said about the goal, or that saying something would change the advice; empty where neither is so."""
    words, key = in_words(said), keys.name("goal", "g")
    if words:
        return Content(_("Goal: {words}. {key} changes it.").format(words="; ".join(words), key=key))
    if not any(q.matters for q in questions):
        return Content("")
    methods = dict.fromkeys(NAMES[a.verdict] for q in questions for a in q.news if not a.changes and a.verdict in NAMES)
    if methods:
        return Content(_("{key}: your goal could make it {methods}.").format(key=key, methods=_(" or ").join(methods)))
    return Content(_("{key}: your goal could change this advice.").format(key=key))


def legend(recommendation: "Recommendation") -> Content:
    """What the letters of the memory bars mean."""
    used = {name for c in recommendation.candidates if c.memory.counted for name, size in c.memory.parts.items() if size}
    letters = "  ".join(f"{letter} {_(name)}" for letter, name, _style in PARTS if name in used)
    return Content(f"{letters}  | {_('what is free')}")


def why(recommendation: "Recommendation", *, warned: bool) -> Table:
    """Reasons with their sources. That a candidate fits stands on its card. Unless the reader is `warned` beside them, how many
    warnings are to follow."""
    count = 0 if warned else len(recommendation.warnings)
    follow = plural("   ! {n} thing worth knowing, below", "   ! {n} things worth knowing, below", count).format(n=count)
    heading = Text(_("Instead") if recommendation.instead else _("Why"), "bold")
    table = hanging_list()
    table.add_row("", heading.append(follow, "not bold") if count else heading)
    for text in recommendation.instead:
        table.add_row(Text(sign("→")), Text(one_line(text, 400)))
    if recommendation.instead:
        table.add_row("", "")
        table.add_row("", Text(_("Why"), "bold"))
    for n, reason in enumerate((r for r in recommendation.reasons if r.code != "fits"), 1):
        table.add_row(Text(str(n)), Text(one_line(reason.text, 400)))
        if reason.source:
            table.add_row("", Text(one_line(reason.source, 300), "dim", no_wrap=True, overflow="ellipsis"))
    return table


def own_settings(cautions: "Iterable[Caution]") -> Content:
    """What is to be said about the person's own settings."""
    return Content("\n").join(Content.styled(f"! {one_line(c.text, 300)}", "$text-warning") for c in cautions)


def more(recommendation: "Recommendation", computing: Iterable[str]) -> Table:
    """Warnings, what would change the verdict, and how the chosen method computes."""
    table = hanging_list()
    if recommendation.warnings:
        _list(table, _("Worth knowing"), "!", cautions(recommendation.warnings))
    if recommendation.would_change:
        _list(table, _("What would change it"), sign("·"), recommendation.would_change)
    _list(table, _("How it computes"), sign("·"), computing)
    return table


def chain(steps: "Iterable[Step]") -> Table:
    """The whole decision, step by step, with points and sources."""
    table = hanging_list()
    stage = ""
    for step in steps:
        if step.stage != stage:
            table.add_row("", Text(("\n" if stage else "") + STAGES[step.stage], "bold"))
            stage = step.stage
        given = ", ".join(f"{NAMES[m]} {p:+g}" for m, p in (step.points or {}).items() if p)
        table.add_row(Text(sign("·")), Text(one_line(step.text, 600) + (f"  [{given}]" if given else "")))
        if step.source:
            table.add_row("", Text(one_line(step.source, 300), "dim"))
    return table


def hanging_list() -> Table:
    """A list in two columns, so that long sentences hang from their number."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=2, justify="right")
    table.add_column(overflow="fold", ratio=1)
    return table


def _list(table: Table, heading: str, mark: str, texts: Iterable[str]) -> None:
    if table.row_count:
        table.add_row("", "")
    table.add_row("", Text(heading, "bold"))
    for text in texts:
        table.add_row(Text(mark), Text(one_line(text, 400)))


def against(text: str) -> Content:
    """What stands against a start that can still be had."""
    return Content("\n").join(
        [
            Content.styled(_("The advice is not to start this run."), "bold"),
            Content(""),
            Content(one_line(text.removesuffix(_("--anyway runs it regardless.")), 1_500)),
            Content(""),
            Content(_("You can start it anyway; the plan records that.")),
        ]
    )


def as_text(advice: "Advice") -> str:
    """Verdict, candidates and reasons, for a mail or an issue."""
    found = advice.recommendation
    lines = [verdict(found).plain, ""]
    lines += [in_line(advice.candidate(c.method)) for c in found.candidates]
    lines += ["", *(f"- {one_line(r.text, 400)}" for r in found.reasons if r.code != "fits")]
    lines += [f"- {one_line(text, 400)}" for text in (*found.instead, *found.would_change)]
    return "\n".join(lines)


def starting(advice: "Advice", come: str = "") -> str:
    """What happens before the run can be watched; `come` is how much of a model has come."""
    if advice.model.weights_here:
        return _("starting…")
    words = _("downloading the model ({size}), then starting… {key} cancels it").format(
        size=size(advice.model.facts.weights_bytes), key=(key := keys.name("back", "esc"))
    )
    return _("{downloaded}, then starting… {key} cancels it").format(downloaded=come, key=key) if come else words


def long_wait(advice: "Advice", method: str) -> Content | None:
    """That the run would take longer than a night, and what is shorter; `None` where it does not."""
    from recommender.remedies import takes_long

    candidate, recommendation = advice.candidate(method), advice.recommendation
    if not takes_long(advice.facts, candidate):
        return None
    told = next((c.text for c in recommendation.warnings if c.code == "slow"), None)
    if told is None or method != recommendation.best.method or method in advice.edits:
        words = _("{method} would take about {time} here.")
        told = words.format(method=NAMES[method], time=duration(3600 * candidate.hours.predicted))
    return Content(f"{told}\n\n{_('Start it all the same?')}")


def pilot(names: list[str], takes: str, *, own: bool, in_folds: bool = False) -> Content:
    """What a pilot would do; `own` where the person has settings of their own."""
    folds = _("With so few rows these are cross-validated to the end; the winner is trained once more:")
    lines = [folds if in_folds else _("These train for a slice of their runs; the winner on the validation rows goes on:")]
    lines += [f"  {sign('·')} {translated(name)}" for name in names]
    lines += [_("Your own settings apply to them too.")] if own else []
    lines += ["", _("The winner is known after about {time}.").format(time=takes)]
    return Content("\n").join(Content(one_line(line, 600)) for line in lines)
