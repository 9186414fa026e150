"""Facts and recommendation as text for a terminal. Everything foreign is cleaned and never markup."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from engine.text import one_line
from recommender.assignment import field_of
from recommender.evidence import SOURCES
from recommender.facts import DataFacts, Facts
from recommender.recommendation import METHOD_NAMES, METHODS, Candidate, Recommendation, Settings
from recommender.setting_reasons import COMPUTING
from tui import goal
from tui.advice_words import cautions, no_method
from tui.i18n import _, plural
from tui.observations import columns_of, model_words, task_name
from tui.show import listed
from tui.show_table import headed_table
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
        more = _("; {n} more").format(n=len(machine.devices) - 1) if len(machine.devices) > 1 else ""
        words = _("{name}, {free} of {total} free now")
        free, total = size(device.memory_free), size(device.memory_total)
        here = words.format(name=one_line(device.name or "GPU", 60), free=free, total=total) + more
    else:
        words = plural(
            "{name}, {cores} core, {free} of memory free now, no GPU",
            "{name}, {cores} cores, {free} of memory free now, no GPU",
            machine.cpu_cores or 0,
        )
        name = one_line(machine.cpu_name or "CPU", 60)
        here = words.format(name=name, cores=number(machine.cpu_cores), free=size(machine.ram_available))
    table.add_row(_("Machine"), Text(here))
    table.add_row(_("Model"), Text(f"{one_line(model.id, 80)}: {_(', ').join(model_words(model))}"))
    in_column = _("{role} in column {name}")
    columns = [in_column.format(role=_(role), name=one_line(name, 40)) for role, name in columns_of(data).items()]
    counted = [_("{n} rows").format(n=number(data.rows))]
    if data.unique_rows is not None and data.unique_rows != data.rows:  # those count in the reasons below
        counted.append(_("{n} distinct").format(n=number(data.unique_rows)))
    table.add_row(_("Data"), Text(", ".join([*counted, *columns])))
    table.add_row(_("Task"), Text(task_words(data)))
    if data.tokens_p50 is not None:
        table.add_row(_("Lengths"), Text(lengths(data)))
    if data.eval_rows is not None:
        table.add_row(_("Held out"), Text(_("{n} rows").format(n=number(data.eval_rows))))
    said = goal.in_words(found.goal) + ([f"“{one_line(found.goal.note, 200)}”"] if found.goal.note else [])
    if said:
        table.add_row(_("Goal"), Text("; ".join(said)))
    console.print(table)


def task_words(data: DataFacts) -> str:
    """`classification, 6 classes: billing 100, delivery 100`."""
    task = task_name(data)
    if not data.classes:
        return task
    counts = list(zip(data.labels or (), data.label_counts or (), strict=False))
    listed = ", ".join(f"{one_line(label, 30)} {number(n)}" for label, n in counts[:MOST_LABELS])
    rest = _(" and {n} more").format(n=len(counts) - MOST_LABELS) if len(counts) > MOST_LABELS else ""
    classes = _("{task}, {n} classes").format(task=task, n=number(data.classes))
    return f"{classes}{f': {listed}{rest}' if listed else ''}"


def lengths(data: DataFacts) -> str:
    """Tokens of a row, and where the numbers come from."""
    median, most, longest = (number(n) for n in (data.tokens_p50, data.tokens_p95, data.tokens_max))
    text = _("median {median} tokens, 95% up to {most}, longest {longest}").format(median=median, most=most, longest=longest)
    return text if data.tokens_origin in ("measured", None) else f"{text} ({_(data.tokens_origin)})"


def recommendation(advice: Recommendation, console: Console) -> None:
    """Verdict, candidates, reasons, warnings and what would change the verdict."""
    headline(advice, console)
    candidates(advice, console)
    brought_plan(advice, console)
    # That a candidate fits stands in the table; the sources' full names stand in docs/method-guide.md and in --json.
    reasons = [r for r in advice.reasons if r.code != "fits"]
    listed(console, _("Why"), [f"{r.text} ({', '.join(short_sources(r.source))})" if r.source else r.text for r in reasons])
    notes(advice, console)
    console.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(_("Settings"), Text(settings_line(advice.settings)), style="dim")
    console.print(table)
    computing = [r.text for r in advice.settings_reasons if r.facts.get("setting") in COMPUTING]
    listed(console, _("How it computes"), computing)


def own_settings(own: Candidate, assigned: list[str], cautions: list[str], console: Console) -> None:
    """The advised settings with a person's own among them: what the run takes then, and what there is to say about them.

    `assigned` (NAME=VALUE) are all that the person set.
    """
    takes = f"~{duration(own.hours.predicted * 3600)}, {memory_sum(own.memory)}"
    words = _("With your own: {method}, {settings}")
    said = words.format(method=_(METHOD_NAMES[own.method]), settings=settings_line(own.settings))
    others = [one_line(a, 60) for a in assigned if field_of(a) not in ON_THE_LINE]
    console.print()
    console.print(Text(f" {sign('·')} ".join([said, *others, takes])))
    listed(console, _("Your own settings"), [f"! {said}" for said in cautions])


def headline(advice: Recommendation, console: Console) -> None:
    """The verdict in one line."""
    console.print()
    if advice.verdict in METHODS:
        words = _("Recommended: {method} ({sure})")
        said = words.format(method=_(METHOD_NAMES[advice.verdict]), sure=_(advice.confidence))
        console.print(Text(said, style="bold"))
    else:
        console.print(Text(no_method(advice), style="bold"))


def candidates(advice: Recommendation, console: Console) -> None:
    """The three methods with what each would take."""
    arrow = f"{sign('→')} "
    table = headed_table()
    for column in ("", _("memory"), "", _("time"), _("trains"), _("disk")):
        table.add_column(column, no_wrap=True)
    for c in advice.candidates:
        chosen = c.method == advice.verdict
        table.add_row(
            Text((arrow if chosen else " " * len(arrow)) + _(METHOD_NAMES[c.method]), style="bold" if chosen else ""),
            Text(memory_sum(c.memory)),
            Text(memory_verdict(c)),
            Text(f"~{duration(c.hours.predicted * 3600)}"),
            Text(amount(c.trained_parameters)),
            Text(size(c.disk)),
        )
    console.print(table)
    if len({(c.settings.token_budget, c.settings.gradient_checkpointing) for c in advice.candidates if c.fits}) > 1:
        words = _("Each with the largest micro-batches that fit: free memory is used for speed.")
        console.print(Padding(Text(words, style="dim"), (0, 0, 0, 2)))


def brought_plan(advice: Recommendation, console: Console) -> None:
    """What is wrong with the settings that the person brought."""
    listed(console, _("Your own settings"), [f"! {w.text}" for w in advice.warnings if w.about == "plan"])


def notes(advice: Recommendation, console: Console) -> None:
    """What to know, what to do instead, what would change the verdict."""
    listed(console, _("Worth knowing"), cautions(w for w in advice.warnings if w.about != "plan"))
    listed(console, _("Instead"), advice.instead)
    listed(console, _("What would change it"), advice.would_change)


def lines(texts: list[str], console: Console) -> None:
    """Sentences after everything else."""
    if texts:
        console.print()
    for text in texts:
        console.print(Text(text))


def short_sources(source: str) -> list[str]:
    """`E3` of `E3 Chen et al. 2022`; what rests on practice says so; a source without a number is named whole."""
    names = [name for name, text in SOURCES.items() if name != "K" and f"{name} {text}" in source]
    names += [_("practice")] if SOURCES["K"] in source else []
    return names or ([one_line(source, 60)] if source else [])


ON_THE_LINE = frozenset(
    {"learning_rate", "schedule", "effective_batch", "epochs", "warmup_steps", "max_length", "rank", "alpha", "dropout"}
    | {"precision", "compile", "kernels"}
)
"""Fields of the plan that the line of settings tells."""


def settings_line(s: Settings) -> str:
    """The hyper-parameters on one line."""
    adapter = []
    if s.rank and s.dropout is not None:
        words = _("rank {rank}, alpha {alpha}, dropout {dropout}")
        adapter = [words.format(rank=s.rank, alpha=s.alpha, dropout=f"{s.dropout:g}")]
    steps = plural("{n} step", "{n} steps", s.total_steps).format(n=number(s.total_steps))
    epochs = plural("{epochs} epoch ({steps}, {warmup} warm-up)", "{epochs} epochs ({steps}, {warmup} warm-up)", s.epochs)
    return f" {sign('·')} ".join(
        [
            f"{_('learning rate')} {rate(s.learning_rate)} {_(s.schedule)}",
            _("batch {rows}").format(rows=s.effective_batch),
            epochs.format(epochs=f"{s.epochs:g}", steps=steps, warmup=number(s.warmup_steps)),
            _("length {tokens}").format(tokens=number(s.max_length)),
            *adapter,
            s.precision,
            *([_("compiled (torch.compile)")] if s.compile else []),
            *([_("Liger's kernels")] if s.kernels == "liger" else []),
        ]
    )
