"""Wall-clock time from facts: work in floating-point operations over the speed of this machine, or the host that starts it."""

from typing import NamedTuple

from recommender import answering, kernels, traced
from recommender.counting import counted_rows, is_labelled, rows_of, split_of
from recommender.device_speed import device_flops, launch_of, with_least_power
from recommender.facts import DataFacts, Facts
from recommender.footprint import checkpoint_bytes, trained_parameters
from recommender.largest import largest_micro_batch
from recommender.recommendation import Hours, Method, Origin, Precision, Settings
from recommender.shape import Shape
from recommender.variants import step_of

WORK_PER_PARAMETER: dict[Method, float] = {"full": 6.0, "lora": 4.0, "qlora": 4.0}
"""Multiply-adds counted as two operations: forward 2, backward 4, of which LoRA skips the weight gradients (E2)."""
SLOWDOWN: dict[Method, float] = {"full": 1.0, "lora": 1.15, "qlora": 1.6}
"""Beyond the multiply-adds: adapters are extra small operations (E10), 4-bit weights are unpacked each time
(E21: 1.38 in the median, up to 2.05)."""
SLOWDOWN_CPU_4BIT = 3.0
UNPACKING_ON_CPU = (1.1, 3.6)
"""On a CPU unpacking may be a larger share of a step: so many times LoRA's step. 2.6 to 3.6 were measured on MiniLM, 2 cores;
where the processor multiplies bf16 in hardware the demo's traced time is less than twice that of LoRA."""
EFFICIENCY = 0.4
"""Share of the matrix-multiply speed that a whole step reaches; 41% was measured on short rows."""
CHECKPOINTING = 1.27
"""Times as long with gradient checkpointing (E25)."""
LAUNCHING: dict[Method, float] = {"full": 125, "lora": 180, "qlora": 250}
"""Operations' worth (`launch_of`) that the host of a GPU starts in a layer, forward and backward, whatever the micro-batch: small
models wait for it. From 40 of the engine's own steps on an H100 (benchmarks/results/prediction_gpu.json), BERT-base to Llama 8B:
with its host's 44 microseconds half of them are within 19%, all within -46% and +68%; by arithmetic alone the middle one came out
at a sixth."""
LAUNCHING_AGAIN = 1.6
"""Times as many with gradient checkpointing: the forward pass once more, and what keeps the random state (the same cells)."""
LAUNCHING_FORWARD = 0.3
"""Of them, where rows are only scored."""
SCALING = 0.85
"""Of each further device's speed that reaches the run: the rest goes into exchanging gradients (K)."""
HOST = 1.1
"""Times as long as alone operations take in a step on a CPU: caches are cold, 1.06 in 24 steps of MiniLM and SmolLM2, and threads
wait for each other, by the clock 1.02 to 1.1 on an idle machine (benchmarks/prediction/times.py)."""
MEASURED = 1.1
"""Times a measured step that the steps of a run take: saving, and steps that others disturb."""
TRIED = (0.75, 1.5)
"""Interval of the time, where a step's own operations were tried on this machine."""
LEARNED = (0.4, 2.5)
"""No more than that is learned from earlier runs: the rest is another reason."""
START_UP_SECONDS, LOADED = 0.5, 150e6
"""Loading, tokenising and the final save on a CPU, and how many bytes of weights in fp32 add a second: 0.6 to 1 s of MiniLM and
3.7 to 5.3 of SmolLM2 were taken on an idle machine. Imports, 5 s, are done while a plan is made, or read."""
START_UP_ON_A_GPU = 4.0
"""The same on a GPU."""
PREFLIGHT = 2
"""Of the fullest micro-batches, how many are trained, and as many scored, before the first step."""
SAVED = 400e6
"""Bytes of a checkpoint that are written, read again and compared in a second: 274 MB took 0.6 to 0.8 s on an idle machine. Told
before there is one to go by; a run's own take its place."""
FIT_ROWS = 500
"""Training rows at most that are scored once more at the end, to show overfitting."""
PROBE_ROWS = 5_000
"""Training rows at most that the linear probe is fitted on."""
PROBED = ("classification", "multi_label", "regression")
"""Tasks with such a model; it reads the held-out rows as well."""


def _step_flops(facts: Facts, method: Method, precision: Precision) -> tuple[float, bool]:
    """`device_flops`; for bf16 on a CPU what fp32 does there, times the speedup that a trial of the whole step has shown."""
    trial = (facts.measured.bf16 or {}).get(method)
    if facts.machine.device is not None or precision != "bf16-mixed":
        return device_flops(facts.machine, facts, precision)
    flops, calibrated = device_flops(facts.machine, facts, "fp32")
    return flops * (trial.speedup if trial is not None else 1.0), calibrated and trial is not None


def tokens_kept(data: DataFacts, length: int) -> int:
    """Tokens of one pass over the rows, repeats counted once, after truncation to `length`."""
    rows = counted_rows(data)
    once = rows / max(rows_of(data) or rows, 1)  # counts of tokens hold the repeats too
    for cut in data.truncation:
        if cut.length == length:
            return round(once * cut.tokens_kept)
    median = min(data.tokens_p50 or 128, length)
    upper = min(data.tokens_p95 or 2 * median, length)
    total = round(once * data.tokens_total) if data.tokens_total is not None else rows * (data.tokens_p50 or 128)
    if data.task == "continued_pretraining":
        return total
    return min(total, rows * (median + upper) // 2)


def both_sides(data: DataFacts) -> float:
    """What an encoder-decoder reads and writes, as a share of twice the longer of both, of which tokens are counted."""
    if not data.read_tokens or not data.trained_tokens or not data.tokens_total:
        return 1.0
    return min((data.read_tokens + data.trained_tokens) / (2 * data.tokens_total), 1.0)


class _Seconds(NamedTuple):
    """Of a run whose layers are not compiled."""

    training: float
    parts: dict[str, float]
    """Of the rest, by the names that a run's phases have in its log, `answers` and `samples` before and after together: scores on
    the carved and held-out rows, written answers, checkpoints and start-up."""
    between: tuple[float, float]
    """Factors of the whole: what it may be instead."""
    origin: Origin


def predict(facts: Facts, shape: Shape, method: Method, settings: Settings, devices: int = 1) -> Hours:
    """Hours of a run: training, evaluations on the carved rows, both final scores, written answers and start-up."""
    training, parts, (low, high), origin = _seconds(facts, shape, method, settings, devices)
    rest = sum(parts.values())
    known = kernels.compiled(facts, shape, method, settings.precision) if settings.compile else None
    if known is not None:
        training, rest = training * (1 - known.saved), rest + known.seconds
    hours = (training + rest) / 3600
    return Hours(predicted=hours, low=low * hours, high=high * hours, origin=origin, training=training / 3600)


def training_seconds(facts: Facts, shape: Shape, method: Method, settings: Settings, devices: int = 1) -> float:
    """Seconds of all steps with their layers as they are, not compiled."""
    return _seconds(facts, shape, method, settings, devices).training


def by_phase(facts: Facts, shape: Shape, method: Method, settings: Settings) -> dict[str, float]:
    """Seconds of a run on one device by the names of its phases, which add up to what is told of it."""
    told = _seconds(facts, shape, method, settings, 1)
    return {"train": told.training} | told.parts


def start_up(facts: Facts, shape: Shape) -> float:
    """Seconds of a run that are neither training nor scoring, however long it is."""
    return START_UP_ON_A_GPU if facts.machine.device is not None else START_UP_SECONDS + 4 * shape.parameters / LOADED


def _seconds(facts: Facts, shape: Shape, method: Method, settings: Settings, devices: int) -> _Seconds:
    flops, calibrated = _step_flops(facts, method, settings.precision)
    flops *= 1 + SCALING * (devices - 1)
    length = settings.max_length
    pass_tokens = tokens_kept(facts.data, length)
    if facts.data.task == "preference":  # counted is the longer of two sequences
        pass_tokens *= 2
    body: float = shape.active_linear_parameters if is_labelled(facts.data) else shape.active_parameters
    body += 2 * shape.blocks * shape.hidden * length // 2  # attention scores, small beside the linear maps
    body *= both_sides(facts.data)
    unique = max(counted_rows(facts.data), 1)
    share = split_of(facts.data).train / unique
    train = _work(shape, method, settings, facts.machine.device is None) * body * pass_tokens * share * settings.epochs
    read = _read(facts.data, settings.evaluations)
    passes = sum(read.values())
    evaluate = 2.0 * body * pass_tokens * passes
    training, scoring = train / (flops * EFFICIENCY), evaluate / (flops * EFFICIENCY)
    starts = _launching(facts, shape, method, settings, (pass_tokens * share * settings.epochs, pass_tokens * passes))
    host_measured = facts.measured.launch is not None
    calibrated = calibrated and (host_measured or training >= starts[0] / devices)
    training, scoring = max(training, starts[0] / devices), max(scoring, starts[1] / devices)
    low, high = (0.6, 1.7) if calibrated else (0.4, 2.5 * with_least_power(facts.machine))
    tried = traced.tried(facts, method, settings.precision, settings.gradient_checkpointing)
    if tried is not None and settings.trained == "all":
        trained, scored = pass_tokens * share * settings.epochs, pass_tokens * passes
        starts = _starts(tried, settings, trained, scored)
        training, scoring = trained * tried.token + settings.total_steps * tried.update, scored * tried.scored
        host, together = (tried.starting * starts[0], tried.starting * starts[1]), 1 + SCALING * (devices - 1)
        if facts.machine.device is None:
            training, scoring = HOST * training + host[0], HOST * scoring + host[1]
            low, high = TRIED
        else:  # which goes on while the card computes
            training, scoring = max(training / together, host[0] / devices), max(scoring / together, host[1] / devices)
            training += settings.total_steps * tried.waited
    elif facts.machine.device is None:
        level = _level(facts, shape, settings, body)
        training, scoring = level * training, level * scoring
    if facts.machine.device is None and facts.machine.cpu_share:  # short readings see nothing of a quota
        training, scoring = training / facts.machine.cpu_share, scoring / facts.machine.cpu_share
    training *= _learned(facts, method, settings.precision)
    of_token = training / max(pass_tokens * share * settings.epochs, 1) + scoring / max(pass_tokens * passes, 1)
    of_scored = scoring / max(pass_tokens * passes, 1) * (EFFICIENCY if tried is None else 1)  # that share is of short rows
    answers, samples = answering.writing(facts, shape, method, settings, of_scored)
    fullest = largest_micro_batch(facts, step_of(facts, method, settings), packed=True)
    parts = {
        "load": start_up(facts, shape),
        "preflight": PREFLIGHT * of_token * fullest.rows * fullest.length,
        "answers": 2 * min(answers, answering.writing_seconds(training + scoring)),
        "samples": 2 * min(samples, answering.SAMPLES_SECONDS),
        "checkpoint": settings.evaluations * _checkpoint(facts, shape, method, settings) / SAVED,
    }
    per_step = (facts.measured.seconds_per_step or {}).get(method)
    measured = settings.total_steps * per_step * MEASURED if per_step else training
    scoring *= measured / max(training, 1e-9)
    parts |= {use: scoring * share / max(passes, 1e-9) for use, share in read.items()}
    if per_step:
        return _Seconds(measured, parts, (0.9, 1.2), "measured")
    known = (facts.machine.device or facts.machine.cpu_cores) and facts.data.tokens_p50 is not None and not shape.assumed
    return _Seconds(training, parts, (low, high), "estimated" if known else "assumed")


def _read(data: DataFacts, evaluations: int) -> dict[str, float]:
    """How often the rows are only scored, as a share of all, by the phases that do it."""
    unique, split = max(counted_rows(data), 1), split_of(data)
    share, validation, held_out = (rows / unique for rows in (split.train, split.validation, data.eval_rows or split.held_out))
    read = {"evaluate": validation * evaluations, "before": held_out, "after": held_out, "fit": min(FIT_ROWS / unique, 1)}
    if held_out and (data.task or "classification") in PROBED:
        read["probe"] = min(PROBE_ROWS / unique, share) + held_out
    if data.task == "preference":  # the untouched model is asked about all of them
        read["reference"] = share + validation + held_out
    return read


def _starts(tried: traced.Tried, settings: Settings, trained: float, scored: float) -> tuple[float, float]:
    """Operations that the host starts, in training and in scoring so many tokens: those of a micro-batch, however small."""
    train, update, score = tried.starts
    tokens = min(tried.tokens, settings.token_budget)
    pieces, read = max(trained / tokens, settings.total_steps), scored / settings.token_budget  # scored by the budget alone
    return pieces * train + settings.total_steps * update, max(read, settings.evaluations) * score


def _level(facts: Facts, shape: Shape, settings: Settings, body: float) -> float:
    """Times the formula's seconds that a step takes here, as one of another kind shows whose operations were tried, the newest;
    1 where none were. So two methods are told by one measure, though one of them took too long to be tried."""
    for step, told in traced.every_tried(facts):
        alike = settings.model_copy(update={"gradient_checkpointing": step.gradient_checkpointing, "trained": "all"})
        flops, _ = _step_flops(facts, step.method, step.precision)
        tokens = max(min(told.tokens, step.micro_tokens), 1)
        seconds = told.token * HOST + told.starting * told.starts[0] / tokens
        return seconds * flops * EFFICIENCY / (_work(shape, step.method, alike, True) * body)
    return 1.0


def _learned(facts: Facts, method: Method, precision: Precision) -> float:
    """Times a predicted step that the steps of earlier runs of that kind took here, where three agreed."""
    factor = (facts.measured.pace or {}).get(f"{method} {precision}", 1.0)
    return min(max(factor, LEARNED[0]), LEARNED[1])


def _launching(
    facts: Facts, shape: Shape, method: Method, settings: Settings, tokens: tuple[float, float]
) -> tuple[float, float]:
    """Seconds in which a GPU's host starts the operations of training and of scoring so many tokens; none on a CPU."""
    if facts.machine.device is None:
        return 0.0, 0.0
    again = LAUNCHING_AGAIN if settings.gradient_checkpointing else 1.0
    if settings.trained == "last_layers":
        again = LAUNCHING_FORWARD + (1 - LAUNCHING_FORWARD) * min((settings.last_layers or 1) / max(shape.layers, 1), 1)
    trained, scored = (count / settings.token_budget for count in tokens)
    each = shape.blocks * LAUNCHING[method] * launch_of(facts.machine, facts)
    return each * again * max(trained, settings.total_steps), each * LAUNCHING_FORWARD * max(scored, settings.evaluations)


def _checkpoint(facts: Facts, shape: Shape, method: Method, settings: Settings) -> int:
    """Bytes of one."""
    return checkpoint_bytes(shape, method, trained_parameters(shape, facts.data, method, settings), settings)


def _work(shape: Shape, method: Method, settings: Settings, on_cpu: bool) -> float:
    """Operations for each parameter and token, what slows the method down included."""
    slow = SLOWDOWN_CPU_4BIT if method == "qlora" and on_cpu else SLOWDOWN[method]
    work = WORK_PER_PARAMETER[method] * slow
    if settings.trained == "last_layers":
        work = 2 + 4 * min((settings.last_layers or 1) / max(shape.layers, 1), 1)
    return work * (CHECKPOINTING if settings.gradient_checkpointing else 1)
