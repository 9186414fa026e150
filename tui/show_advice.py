"""Facts and recommendation as text for a terminal. Everything foreign is cleaned and never markup."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.text import one_line
from recommender.evidence import SOURCES
from recommender.facts import DataFacts, Facts
from recommender.recommendation import METHOD_NAMES, METHODS, Candidate, Recommendation, Settings
from tui import goal
from tui.observations import columns_of, task_name
from tui.show import listed
from tui.words import amount, duration, memory_sum, memory_verdict, number, rate, sign, size

MOST_LABELS = 8


def facts(found: Facts, console: Console) -> None:
    """What was found out, a line each."""
    machine, model, data = found.machine, found.model, found.data
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    device = machine.device
    if device is not None:
        more = f"; {len(machine.devices) - 1} more" if len(machine.devices) > 1 else ""
        here = f"{one_line(device.name or 'GPU', 60)}, {size(device.memory_free)} of {size(device.memory_total)} free now{more}"
    else:
        cpu = f"{one_line(machine.cpu_name or 'CPU', 60)}, {number(machine.cpu_cores)} cores"
        here = f"{cpu}, {size(machine.ram_available)} of memory free now, no GPU"
    table.add_row("Machine", Text(here))
    named = f"{one_line(model.id, 80)}: {model.family or 'model'}, {amount(model.parameters)} parameters"
    table.add_row("Model", Text(f"{named}, {number(model.layers)} layers, reads {number(model.max_positions)} tokens"))
    columns = ", ".join(f"{role} in column {one_line(name, 40)}" for role, name in columns_of(data).items())
    table.add_row("Data", Text(f"{number(data.rows)} rows{f', {columns}' if columns else ''}"))
    table.add_row("Task", Text(task_words(data)))
    if data.tokens_p50 is not None:
        table.add_row("Lengths", Text(lengths(data)))
    if data.eval_rows is not None:
        table.add_row("Held out", Text(f"{number(data.eval_rows)} rows"))
    said = goal.in_words(found.goal) + ([f"“{one_line(found.goal.note, 200)}”"] if found.goal.note else [])
    if said:
        table.add_row("Goal", Text("; ".join(said)))
    console.print(table)


def task_words(data: DataFacts) -> str:
    """`classification, 6 classes: billing 100, delivery 100`."""
    task = task_name(data)
    if not data.classes:
        return task
    counts = list(zip(data.labels or (), data.label_counts or (), strict=False))
    listed = ", ".join(f"{one_line(label, 30)} {number(n)}" for label, n in counts[:MOST_LABELS])
    rest = f" and {len(counts) - MOST_LABELS} more" if len(counts) > MOST_LABELS else ""
    return f"{task}, {number(data.classes)} classes{f': {listed}{rest}' if listed else ''}"


def lengths(data: DataFacts) -> str:
    """Tokens of a row, and where the numbers come from."""
    median, most, longest = (number(n) for n in (data.tokens_p50, data.tokens_p95, data.tokens_max))
    text = f"half up to {median} tokens, 95% up to {most}, longest {longest}"
    return text if data.tokens_origin in ("measured", None) else f"{text} ({data.tokens_origin})"


def recommendation(advice: Recommendation, console: Console) -> None:
    """Verdict, candidates, reasons, warnings and what would change the verdict."""
    headline(advice, console)
    candidates(advice, console)
    brought_plan(advice, console)
    # That a candidate fits stands in the table; the sources' full names stand in docs/method-guide.md and in --json.
    reasons = [r for r in advice.reasons if r.code != "fits"]
    listed(console, "Why", [f"{r.text} ({', '.join(short_sources(r.source))})" if r.source else r.text for r in reasons])
    notes(advice, console)
    console.print()
    console.print(Text(f"Settings  {settings_line(advice.settings)}", style="dim"))


def own_settings(own: Candidate, cautions: list[str], console: Console) -> None:
    """The advised settings with a person's own among them: what the run takes then, and what there is to say about them."""
    takes = f"~{duration(own.hours.predicted * 3600)}, ~{memory_sum(own)}"
    console.print(Text(f"With your own: {METHOD_NAMES[own.method]}, {settings_line(own.settings)} {sign('·')} {takes}"))
    listed(console, "Your own settings", [f"! {said}" for said in cautions])


def headline(advice: Recommendation, console: Console) -> None:
    """The verdict in one line."""
    console.print()
    if advice.verdict in METHODS:
        console.print(Text(f"Recommended: {METHOD_NAMES[advice.verdict]} ({advice.confidence})", style="bold"))
    else:
        late = any(c.fits and c.removed_by == "over_time_budget" for c in advice.candidates)
        nothing = "Nothing finishes in the time you allow." if late else "Nothing fits on this machine."
        words = {"not_yet": "Not yet: fine-tuning now would be a wasted run.", "does_not_fit": nothing}
        console.print(Text(words[advice.verdict], style="bold"))


def candidates(advice: Recommendation, console: Console) -> None:
    """The three methods with what each would take."""
    arrow = f"{sign('→')} "
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("", "memory", "", "time", "trains", "disk"):
        table.add_column(column, no_wrap=True)
    for c in advice.candidates:
        chosen = c.method == advice.verdict
        table.add_row(
            Text((arrow if chosen else " " * len(arrow)) + METHOD_NAMES[c.method], style="bold" if chosen else ""),
            Text(f"~{memory_sum(c)}"),
            Text(memory_verdict(c).removesuffix(" stays free")),
            Text(f"~{duration(c.hours.predicted * 3600)}"),
            Text(amount(c.trained_parameters)),
            Text(size(c.disk)),
        )
    console.print(table)
    if len({(c.settings.token_budget, c.settings.gradient_checkpointing) for c in advice.candidates if c.fits}) > 1:
        console.print(Text("  Each with the largest micro-batches that fit: room that is free is used for speed.", style="dim"))


def brought_plan(advice: Recommendation, console: Console) -> None:
    """What is wrong with the settings that the person brought."""
    listed(console, "Your own settings", [f"! {w.text}" for w in advice.warnings if w.about == "plan"])


def notes(advice: Recommendation, console: Console) -> None:
    """What to know, what to do instead, what would change the verdict."""
    listed(console, "Worth knowing", [w.text for w in advice.warnings if w.about != "plan"])
    listed(console, "Instead", advice.instead)
    listed(console, "What would change it", advice.would_change)


def lines(texts: list[str], console: Console) -> None:
    """Sentences after everything else."""
    if texts:
        console.print()
    for text in texts:
        console.print(Text(text))


def short_sources(source: str) -> list[str]:
    """`E3` of `E3 Chen et al. 2022`; what rests on practice says so; a source without a number is named whole."""
    names = [name for name, text in SOURCES.items() if name != "K" and f"{name} {text}" in source]
    names += ["practice"] if SOURCES["K"] in source else []
    return names or ([one_line(source, 60)] if source else [])


def settings_line(s: Settings) -> str:
    """The hyper-parameters on one line."""
    adapter = [f"rank {s.rank}, alpha {s.alpha}, dropout {s.dropout:g}"] if s.rank and s.dropout is not None else []
    return f" {sign('·')} ".join(
        [
            f"learning rate {rate(s.learning_rate)} {s.schedule}",
            f"batch {s.effective_batch}",
            f"{s.epochs:g} epoch{'' if s.epochs == 1 else 's'} ({number(s.total_steps)} steps, {number(s.warmup_steps)} warm-up)",
            f"length {number(s.max_length)}",
            *adapter,
            s.precision,
        ]
    )
