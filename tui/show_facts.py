"""Facts about a machine, a model or a data set as calm tables. Everything foreign is cleaned and never markup."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.inspect import DataInspection, ModelInspection
from engine.tables.table import joined_names
from engine.text import one_line
from recommender.facts import CLASSIFYING, DataFacts, Device, Machine, Truncation
from recommender.figures import share
from tui.error_words import in_words
from tui.i18n import _, plural
from tui.observations import columns_of, of_data, task_name
from tui.show import listed
from tui.show_table import headed_table
from tui.words import amount, number, sign, size

MOST_LABELS = 20
LENGTHS_SHOWN = 8
PREVIEW_ROWS = 5
NAMES_SHOWN = 12
SURE = 0.8
"""Confidence below which a guess is called one."""
SEPARATORS = {"comma": _("comma"), "tab": _("tab"), "semicolon": _("semicolon"), "bar": _("bar")}
Line = tuple[str, str | None]


def machine(found: Machine, speed: Mapping[str, float] | None, console: Console) -> None:
    """Accelerators, processor, memory, disk, kernels. `speed` is in floating-point operations a second by precision."""
    lines: list[Line] = []
    if not found.devices:
        lines.append((_("Accelerator"), _("none found: training would run on the processor")))
    bf16 = {True: _("bf16 in hardware"), False: _("no bf16"), None: None}[found.cpu_bf16]
    avx = {True: "AVX-512", False: _("no AVX-512"), None: None}[found.cpu_avx512]
    cores = _of(plural("{n} usable core", "{n} usable cores", found.cpu_cores or 0), found.cpu_cores)
    lines.append((_("Processor"), _joined([_short(found.cpu_name, 60), cores, avx, bf16])))
    for precision, flops in (speed or {}).items():
        words = _("{n} billion operations a second in {precision} (measured now)")
        lines.append((_("Speed"), words.format(n=f"{flops / 1e9:,.0f}", precision=precision)))
    lines.append((_("Memory"), _free(found.ram_available, found.ram_total)))
    disk = _("{size} free for runs").format(size=size(found.disk_free)) if found.disk_free is not None else None
    lines.append((_("Disk"), disk))
    if found.hub_disk_free is not None and found.hub_disk_free != found.disk_free:
        lines.append(("", _("{size} free for downloaded models").format(size=size(found.hub_disk_free))))
    tried = {
        True: _("run here (tried)"),
        False: _("do not run here (tried): no QLoRA"),
        None: _("not tried; --try-nf4 finds out"),
    }
    lines.append((_("4-bit kernels"), tried[found.nf4]))
    if found.backend == "cuda":
        missing = _("not installed; pip install 'loracle[liger]' adds them")
        there = _("{version} installed").format(version=one_line(found.liger, 20))
        lines.append((_("Liger's kernels"), there if found.liger else missing))
    _heading(_("Machine"), _("{backend}, measured now").format(backend=found.backend), console)
    _lines(lines, console)
    if found.devices:
        console.print()
        _devices(found, console)
    listed(console, _("Worth knowing"), [in_words(problem) for problem in found.problems])


def _devices(found: Machine, console: Console) -> None:
    table = headed_table()
    table.add_column("", no_wrap=True)
    table.add_column(_("accelerator"), overflow="fold")
    for name in (_("free now"), _("of"), _("used by others"), "bf16", _("temp")):
        table.add_column(name, justify="right", no_wrap=True)
    for device in found.devices:
        capability = f" (CC {device.compute_capability[0]}.{device.compute_capability[1]})" if device.compute_capability else ""
        slice_of = _(", a slice (MIG)") if device.mig else ""
        table.add_row(
            sign("→") if device is found.device else "",
            Text(f"{one_line(device.name or 'GPU', 60)}{capability}{slice_of}"),
            size(device.memory_free),
            size(device.memory_total),
            size(device.held_by_others),
            {True: _("yes"), False: _("no"), None: sign("–")}[device.bf16],
            f"{device.temperature} C" if device.temperature is not None else "",
        )
    console.print(table)
    console.print(Text(_used(found.devices), style="dim"))


def _used(devices: Sequence[Device]) -> str:
    words = _("the one a run would use: a run uses one accelerator, the one with the most free memory.")
    return f"{sign('→')} {words}" if len(devices) > 1 else ""


def model(looked: ModelInspection, console: Console) -> None:
    """Kind, parameters, shape, weights."""
    found, path, revision = looked.facts, looked.path, looked.revision
    whole = found.parameters

    def part(name: str, count: int | None) -> str | None:
        return f"{name} {amount(count)}{f' ({share(count / whole)})' if whole else ''}" if count is not None else None

    parts = [
        part(_("embeddings"), found.embedding_parameters),
        part(_("linear layers"), found.linear_parameters),
        part(_("other"), found.other_parameters),
    ]
    experts = _of(_("{n} in each layer"), found.experts)
    if experts is not None:
        experts += _of(_(", {n} for each token"), found.experts_per_token) or ""
        if found.active_parameters:
            experts += _(": a token passes through {n} parameters").format(n=amount(found.active_parameters))
    fewer = found.kv_heads not in (None, found.attention_heads)
    shape = [
        _of(_("{n} layers"), found.layers),
        _of(_("hidden size {n}"), found.hidden_size),
        _of(_("MLP size {n}"), found.intermediate_size),
        _of(_("{n} attention heads"), found.attention_heads),
        _of(_("{n} key/value heads"), found.kv_heads) if fewer else None,
    ]
    tied = {True: _("tied embeddings"), False: _("untied embeddings"), None: None}
    quantised = _("not quantised")
    if found.quantization:
        quantised = _("already quantised ({how})").format(how=one_line(found.quantization, 40))
    weights = [size(found.weights_bytes) if found.weights_bytes else None, found.dtype, found.weights_format, quantised]
    tuned = {True: _("instruction-tuned"), False: _("a base model"), None: None}[found.instruct]
    template = {True: _("with a chat template"), False: _("without a chat template"), None: None}[found.chat_template]
    kind = [_(found.family) if found.family else None, _short(found.architecture, 60), tuned, template]
    _heading(_("Model"), one_line(found.id or path, 200), console)
    _lines(
        [
            (_("Kind"), _joined(kind)),
            (_("Parameters"), f"{amount(whole)}: {_joined(p for p in parts if p)}" if any(parts) else amount(whole)),
            (_("Experts"), experts),
            (_("Shape"), _joined(shape)),
            (_("Vocabulary"), _joined([_of(_("{n} tokens"), found.vocabulary_size), tied[found.tied_embeddings]])),
            (_("Reads"), _of(_("up to {n} tokens at once"), found.max_positions)),
            (_("Weights"), _joined(weights)),
            (_("License"), _short(found.license, 60)),
            (_("File") if found.weights_format == "gguf" else _("Folder"), one_line(path, 1000)),
            (_("Revision"), _short(revision, 60)),
        ],
        console,
    )
    console.print()
    source = [_("Read from the configuration and the headers of the weights; no weights were loaded.")]
    source += [] if looked.weights_here else [_("The weights are not on this machine; a run downloads them.")]
    console.print(Text(" ".join(source), style="dim"))


def data(looked: DataInspection, console: Console) -> None:
    """Task, columns, rows, tokens, labels, what is wrong, the first rows."""
    found, path = looked.facts, looked.path
    used = columns_of(found)
    parts = [part for name in used.values() for part in (name, *joined_names(name))]
    read = {*parts, *(name.partition(".")[0] for name in parts)}
    read |= {"tools"} if found.task in ("chat", "preference") else set()
    others = [one_line(c, 40) for c in looked.columns if c not in read]
    others[NAMES_SHOWN:] = [sign("…")] if len(others) > NAMES_SHOWN else []
    header = {True: _("with a header"), False: _("without a header"), None: None}[found.header]
    separated = _("{name}-separated").format(name=SEPARATORS.get(found.separator, found.separator)) if found.separator else None
    written = [found.format, found.encoding, separated, header]
    sure = ""
    if found.confidence is not None and found.confidence < 1:
        sure = _(" ({share} sure)").format(share=share(found.confidence))
    distinct = found.unique_rows if found.unique_rows != found.rows else None
    rows = [
        number(found.rows) if found.rows is not None else None,
        _("{n} distinct").format(n=number(distinct)) if distinct is not None else None,
        _("{n} held out").format(n=number(found.eval_rows)) if found.eval_rows is not None else None,
    ]
    named = ", ".join(f"{role}: {one_line(name, 40)}" for role, name in used.items())
    unused = _(" (not used: {names})").format(names=", ".join(others)) if others else ""
    learned = _("{n} tokens per epoch").format(n=number(found.trained_tokens)) if found.trained_tokens is not None else None
    _heading(_("Data"), one_line(path, 1000), console)
    _lines(
        [
            (_("Task"), f"{task_name(found)}{sure}"),
            (_("Columns"), f"{named}{unused}" if named else None),
            (_("Format"), _joined([found.layout if found.layout != "text_label" else None, *written])),
            (_("Language"), _("{name} (a guess)").format(name=one_line(found.language, 10)) if found.language else None),
            (_("Rows"), _joined(rows)),
            (_("Tokens"), _tokens(found)),
            (_("Learned from"), learned),
        ],
        console,
    )
    _labels(found, console)
    _lengths(found.truncation, found.rows, console)
    guess = [_("task and columns are a guess: correct them with --task, --text-column, --label-column and --column")]
    unsure = found.confidence is not None and found.confidence < SURE
    listed(console, _("Worth knowing"), of_data(found) + (guess if unsure else []))
    _preview(looked.preview, found.task, console)


def _tokens(found: DataFacts) -> str | None:
    if found.tokens_p50 is None:
        return None
    median, most, longest = (number(n) for n in (found.tokens_p50, found.tokens_p95, found.tokens_max))
    total = _("; {n} in all").format(n=number(found.tokens_total)) if found.tokens_total is not None else ""
    origin = _(found.tokens_origin) if found.tokens_origin else _("assumed")
    words = _("median {median}, 95% up to {most}, longest {longest}")
    return f"{words.format(median=median, most=most, longest=longest)}{total} ({origin})"


def _labels(found: DataFacts, console: Console) -> None:
    counts = sorted(zip(found.labels or (), found.label_counts or (), strict=False), key=lambda pair: -pair[1])
    if not counts:
        return
    console.print()
    table = headed_table()
    table.add_column(_("{n} classes").format(n=number(found.classes)), overflow="fold")
    table.add_column(_("rows"), justify="right", no_wrap=True)
    table.add_column(_("share"), justify="right", no_wrap=True)
    whole = sum(n for _, n in counts) or 1
    for label, count in counts[:MOST_LABELS]:
        table.add_row(Text(one_line(label, 60)), number(count), share(count / whole))
    if len(counts) > MOST_LABELS:
        rest = counts[MOST_LABELS:]
        table.add_row(
            Text(_("{n} more").format(n=len(rest)), style="dim"),
            number(sum(n for _, n in rest)),
            share(sum(n for _, n in rest) / whole),
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
    table = headed_table()
    for name in (_("cut at"), _("rows cut"), "", _("text kept")):
        table.add_column(name, justify="right", no_wrap=True)
    for cut in shown:
        kept = share(min(cut.tokens_kept / whole, 1.0))
        table.add_row(
            _("{n} tokens").format(n=number(cut.length)), number(cut.rows_cut), share(min(cut.rows_cut / rows, 1.0)), kept
        )
    console.print(table)


def _preview(preview: Sequence[Sequence[str]], task: str | None, console: Console) -> None:
    """Label and text side by side; where text is written, prompt and answer below each other."""
    if not preview:
        return
    console.print()
    console.print(Text(_("First rows"), style="bold"))
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


def _of(words: str, n: int | None) -> str | None:
    """The words with that number; nothing where it is not known, or 0."""
    return words.format(n=number(n)) if n else None


def _short(text: str | None, most: int) -> str | None:
    return one_line(text, most) if text else None


def _joined(parts: Iterable[str | None]) -> str:
    return _(", ").join(p for p in parts if p)


def _free(free: int | None, whole: int | None) -> str:
    return _("{free} free now of {total}").format(free=size(free), total=size(whole))
