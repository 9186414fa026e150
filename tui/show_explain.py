"""The whole chain behind a recommendation, for people: gates, candidates, constraints, dominance, points, settings."""

import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine.text import one_line
from recommender.evidence import SOURCES
from recommender.explain import STAGES, Step, explain
from recommender.facts import Facts
from recommender.recommendation import METHOD_NAMES, METHODS, Recommendation
from tui import advice_words, show_advice
from tui.i18n import _
from tui.show_advice import settings_line, short_sources
from tui.words import sign

NOTHING = {"constraints": _("Every method can run here."), "dominance": _("No method makes another pointless.")}
"""What is said of a stage without steps; others are left out then."""


def steps(facts: Facts, advice: Recommendation) -> list[dict[str, Any]]:
    """The chain as JSON objects, then the warnings and what to do instead, in the same form."""
    chain = [step.model_dump(mode="json") for step in explain(facts, advice)]
    more = [("warnings", w.code, w.text) for w in advice.warnings] + [("instead", "instead", text) for text in advice.instead]
    return chain + [{"stage": stage, "code": code, "text": text, "points": None, "source": ""} for stage, code, text in more]


def chain(facts: Facts, advice: Recommendation, console: Console) -> None:
    """Print the verdict, then every step under the heading of its stage, then the warnings and the sources by name."""
    found = [s for s in explain(facts, advice) if s.code != "would_change"]  # that comes with the notes, after the chain
    show_advice.headline(advice, console)
    show_advice.brought_plan(advice, console)
    shown = [stage for stage in STAGES if any(s.stage == stage for s in found) or stage in NOTHING]
    for number, stage in enumerate(shown, 1):
        mine = [s for s in found if s.stage == stage]
        console.print()
        console.print(Text(f"{number}  {_heading(stage, advice)}", style="bold"))
        if stage == "points":
            _points(mine, console)
        elif mine:
            if stage == "settings":
                console.print(Padding(Text(settings_line(advice.settings)), (0, 0, 0, 5)))
            _rules(mine, console)
        else:
            console.print(Padding(Text(NOTHING[stage], style="dim"), (0, 0, 0, 5)))
    show_advice.notes(advice, console)
    _sources(found, console)


def _heading(stage: str, advice: Recommendation) -> str:
    if stage != "settings":
        return advice_words.STAGES[stage]
    runs, idle = _("Settings of {method}, and why"), _("Settings of {method}, were it to run, and why")
    words = runs if advice.verdict in METHODS else idle
    return words.format(method=_(METHOD_NAMES[advice.best.method]))


def _rules(found: Sequence[Step], console: Console) -> None:
    """Sentence and source, hanging from the rule's short name."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=3, style="dim", justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for step in found:
        table.add_row(_rule(step), _sentence(step))
    console.print(table)


def _points(found: Sequence[Step], console: Console) -> None:
    """What each rule gave each method, and the sum."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", width=3, style="dim", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name in (_("full"), "LoRA", "QLoRA"):
        table.add_column(name, justify="right", no_wrap=True)
    for step in found:
        if step.code == "points_total" and step.points:
            table.add_row("", *(Text(t, style="bold") for t in (_("Total"), *(f"{step.points[m]:g}" for m in METHODS))))
        else:
            given = [f"{step.points[m]:+g}" if step.points and step.points[m] else "0" for m in METHODS]
            table.add_row(_rule(step), _sentence(step), *given)
    console.print(table)


def _sentence(step: Step) -> Text:
    cited = f" ({', '.join(short_sources(step.source))})" if step.source else ""
    return Text.assemble(one_line(step.text, 1000), (cited, "dim"))


def _rule(step: Step) -> str:
    """`W3` of `W3_adapter_holds_data`; a step that is no numbered rule gets a mark."""
    name = step.code.split("_")[0]
    return name if re.fullmatch(r"[GDW]\d+", name) else sign("·")


def _sources(found: Sequence[Step], console: Console) -> None:
    """Every source that was cited, written out once."""
    cited = [name for name, text in SOURCES.items() if name != "K" and any(f"{name} {text}" in s.source for s in found)]
    if not cited:
        return
    console.print()
    console.print(Text(_("Sources, explained in docs/method-guide.md"), style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=4, style="dim", justify="right", no_wrap=True)
    table.add_column(ratio=1, overflow="fold", style="dim")
    for name in cited:
        table.add_row(name, Text(SOURCES[name]))
    console.print(table)
