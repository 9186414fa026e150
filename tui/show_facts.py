"""Facts about a machine, a model or a data set as calm tables. Everything foreign is cleaned and never markup."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.inspect import DataInspection, ModelInspection
from engine.text import one_line
from recommender.facts import CLASSIFYING, DataFacts, Device, Machine, Truncation
from tui.observations import columns_of, of_data, task_name
from tui.show import listed
from tui.words import amount, number, share, sign, size

MOST_LABELS = 20
LENGTHS_SHOWN = 8
PREVIEW_ROWS = 5
SURE = 0.8
"""Confidence below which a guess is called one."""
Line = tuple[str, str | None]


def machine(found: Machine, speed: Mapping[str, float] | None, console: Console) -> None:
    """Accelerators, processor, memory, disk, kernels. `speed` is in floating-point operations a second by precision."""
    lines: list[Line] = []
    if not found.devices:
        lines.append(("Accelerator", "none found: training would run on the processor"))
    bf16 = {True: "bf16 in hardware", False: "no bf16", None: None}[found.cpu_bf16]
    avx = {True: "AVX-512", False: "no AVX-512", None: None}[found.cpu_avx512]
    cores = f"{number(found.cpu_cores)} cores usable" if found.cpu_cores else None
    lines.append(("Processor", _joined([one_line(found.cpu_name, 60) if found.cpu_name else None, cores, avx, bf16])))
    for precision, flops in (speed or {}).items():
        lines.append(("Speed", f"{flops / 1e9:,.0f} billion operations a second in {precision} (measured now)"))
    lines.append(("Memory", _free(found.ram_available, found.ram_total)))
    lines.append(("Disk", f"{size(found.disk_free)} free for runs" if found.disk_free is not None else None))
    if found.hub_disk_free is not None and found.hub_disk_free != found.disk_free:
        lines.append(("", f"{size(found.hub_disk_free)} free for downloaded models"))
    tried = {True: "run here (tried)", False: "do not run here (tried): no QLoRA", None: "not tried; --try-nf4 finds out"}
    lines.append(("4-bit kernels", tried[found.nf4]))
    _heading("Machine", f"{found.backend}, measured now", console)
    _lines(lines, console)
    if found.devices:
        console.print()
        _devices(found, console)
    listed(console, "Worth knowing", found.problems)


def _devices(found: Machine, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column("accelerator", overflow="fold")
    for name in ("free now", "of", "others hold", "bf16", "temp"):
        table.add_column(name, justify="right", no_wrap=True)
    for device in found.devices:
        capability = f" (CC {device.compute_capability[0]}.{device.compute_capability[1]})" if device.compute_capability else ""
        slice_of = ", a slice (MIG)" if device.mig else ""
        table.add_row(
            sign("→") if device is found.device else "",
            Text(f"{one_line(device.name or 'GPU', 60)}{capability}{slice_of}"),
            size(device.memory_free),
            size(device.memory_total),
            size(device.held_by_others),
            {True: "yes", False: "no", None: sign("–")}[device.bf16],
            f"{device.temperature} C" if device.temperature is not None else "",
        )
    console.print(table)
    console.print(Text(_used(found.devices), style="dim"))


def _used(devices: Sequence[Device]) -> str:
    return f"{sign('→')} the one a run would use: one run uses one accelerator, the freest." if len(devices) > 1 else ""


def model(looked: ModelInspection, console: Console) -> None:
    """Kind, parameters, shape, weights."""
    found, path, revision = looked.facts, looked.path, looked.revision
    whole = found.parameters

    def part(name: str, count: int | None) -> str | None:
        return f"{name} {amount(count)}{f' ({share(count / whole)})' if whole else ''}" if count is not None else None

    parts = [
        part("embeddings", found.embedding_parameters),
        part("linear layers", found.linear_parameters),
        part("other", found.other_parameters),
    ]
    experts = None
    if found.experts:
        per_token = f", {number(found.experts_per_token)} for each token" if found.experts_per_token else ""
        active = f": a token passes through {amount(found.active_parameters)} parameters" if found.active_parameters else ""
        experts = f"{number(found.experts)} in each layer{per_token}{active}"
    heads = f"{number(found.attention_heads)} attention heads" if found.attention_heads else None
    keys = f"{number(found.kv_heads)} for keys and values" if found.kv_heads not in (None, found.attention_heads) else None
    shape = [
        f"{number(found.layers)} layers" if found.layers else None,
        f"width {number(found.hidden_size)}" if found.hidden_size else None,
        f"{number(found.intermediate_size)} inside" if found.intermediate_size else None,
        heads,
        keys,
    ]
    tied = {True: "input and output embeddings are one", False: "separate output embeddings", None: None}
    vocabulary = [f"{number(found.vocabulary_size)} tokens" if found.vocabulary_size else None, tied[found.tied_embeddings]]
    quantised = f"already quantised ({one_line(found.quantization, 40)})" if found.quantization else "not quantised"
    weights = [size(found.weights_bytes) if found.weights_bytes else None, found.dtype, found.weights_format, quantised]
    tuned = {True: "tuned to follow instructions", False: "a base model", None: None}[found.instruct]
    template = {True: "with a chat template", False: "without a chat template", None: None}[found.chat_template]
    kind = [found.family, one_line(found.architecture, 60) if found.architecture else None, tuned, template]
    _heading("Model", one_line(found.id or path, 200), console)
    _lines(
        [
            ("Kind", _joined(kind)),
            ("Parameters", f"{amount(whole)}: {_joined(p for p in parts if p)}" if any(parts) else amount(whole)),
            ("Experts", experts),
            ("Shape", _joined(shape)),
            ("Vocabulary", _joined(vocabulary)),
            ("Reads", f"up to {number(found.max_positions)} tokens at once" if found.max_positions else None),
            ("Weights", _joined(weights)),
            ("License", one_line(found.license, 60) if found.license else None),
            ("File" if found.weights_format == "gguf" else "Folder", one_line(path, 1000)),
            ("Revision", one_line(revision, 60) if revision else None),
        ],
        console,
    )
    console.print()
    here = "" if looked.weights_here else " The weights are not on this machine; a run downloads them."
    source = "Read from the configuration and the headers of the weights; no weights were loaded."
    console.print(Text(source + here, style="dim"))


def data(looked: DataInspection, console: Console) -> None:
    """Task, columns, rows, tokens, labels, what is wrong, the first rows."""
    found, path = looked.facts, looked.path
    used = columns_of(found)
    others = [one_line(c, 40) for c in looked.columns if c not in used.values()]
    header = {True: "with a header", False: "without a header", None: None}[found.header]
    written = [found.format, found.encoding, f"{one_line(found.separator, 20)}-separated" if found.separator else None, header]
    sure = f" ({share(found.confidence)} sure)" if found.confidence is not None and found.confidence < 1 else ""
    rows = [
        f"{number(found.rows)}" if found.rows is not None else None,
        f"{number(found.unique_rows)} different" if found.unique_rows not in (None, found.rows) else None,
        f"{number(found.eval_rows)} held out" if found.eval_rows is not None else None,
    ]
    named = ", ".join(f"{role}: {one_line(name, 40)}" for role, name in used.items())
    unused = f" (not used: {', '.join(others[:12])})" if others else ""
    _heading("Data", one_line(path, 1000), console)
    _lines(
        [
            ("Task", f"{task_name(found)}{sure}"),
            ("Columns", f"{named}{unused}" if named else None),
            ("Written as", _joined([found.layout if found.layout != "text_label" else None, *written])),
            ("Language", f"{one_line(found.language, 10)} (a guess)" if found.language else None),
            ("Rows", _joined(rows)),
            ("Tokens", _tokens(found)),
            ("Learned from", f"{number(found.trained_tokens)} tokens an epoch" if found.trained_tokens is not None else None),
        ],
        console,
    )
    _labels(found, console)
    _lengths(found.truncation, found.rows, console)
    guess = ["task and columns are a guess: --task, --text-column, --label-column and --column say otherwise"]
    unsure = found.confidence is not None and found.confidence < SURE
    listed(console, "Worth knowing", of_data(found) + (guess if unsure else []))
    _preview(looked.preview, found.task, console)


def _tokens(found: DataFacts) -> str | None:
    if found.tokens_p50 is None:
        return None
    median, most, longest = (number(n) for n in (found.tokens_p50, found.tokens_p95, found.tokens_max))
    total = f"; {number(found.tokens_total)} in all" if found.tokens_total is not None else ""
    return f"half of the rows up to {median}, 95% up to {most}, longest {longest}{total} ({found.tokens_origin or 'assumed'})"


def _labels(found: DataFacts, console: Console) -> None:
    counts = sorted(zip(found.labels or (), found.label_counts or (), strict=False), key=lambda pair: -pair[1])
    if not counts:
        return
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(f"{number(found.classes)} classes", overflow="fold")
    table.add_column("rows", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    whole = sum(n for _, n in counts) or 1
    for label, count in counts[:MOST_LABELS]:
        table.add_row(Text(one_line(label, 60)), number(count), share(count / whole))
    if len(counts) > MOST_LABELS:
        rest = counts[MOST_LABELS:]
        table.add_row(
            Text(f"{len(rest)} more", style="dim"), number(sum(n for _, n in rest)), share(sum(n for _, n in rest) / whole)
        )
    console.print(table)


def _lengths(cuts: Sequence[Truncation], rows: int | None, console: Console) -> None:
    """What each maximum length would cut, from the shortest that cuts less than all to the first that cuts none."""
    shown = [c for c in cuts if c.rows_cut]
    free = next((c for c in cuts if not c.rows_cut), None)
    shown = (shown + ([free] if free else []))[-LENGTHS_SHOWN:]
    if not rows or not shown:
        return
    whole = cuts[-1].tokens_kept or 1
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("cut at", "rows cut", "", "text kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for cut in shown:
        kept = share(min(cut.tokens_kept / whole, 1.0))
        table.add_row(f"{number(cut.length)} tokens", number(cut.rows_cut), share(min(cut.rows_cut / rows, 1.0)), kept)
    console.print(table)


def _preview(preview: Sequence[Sequence[str]], task: str | None, console: Console) -> None:
    """Label and text side by side; where text is written, prompt and answer below each other."""
    if not preview:
        return
    console.print()
    console.print(Text("First rows", style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    if task in CLASSIFYING:
        table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for text, answer in preview[:PREVIEW_ROWS]:
        if task in CLASSIFYING:
            table.add_row(Text(one_line(answer, 20)), Text(one_line(text, 400)))
            continue
        table.add_row(Text(one_line(text, 400)))
        if answer:
            table.add_row(Text(f"  {sign('→')} {one_line(answer, 400)}", style="dim"))
    console.print(table)


def _heading(what: str, name: str, console: Console) -> None:
    console.print(Text.assemble((what, "bold"), f"  {name}"), soft_wrap=True)


def _lines(lines: Iterable[Line], console: Console) -> None:
    """Name and value; what is not known is left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value:
            table.add_row(f"  {name}", Text(value))
    console.print(table)


def _joined(parts: Iterable[str | None]) -> str:
    return ", ".join(p for p in parts if p)


def _free(free: int | None, whole: int | None) -> str:
    return f"{size(free)} free now of {size(whole)}"
