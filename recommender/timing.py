"""Wall-clock time from facts: work in floating-point operations over the speed of this machine."""

import re

from recommender import traced
from recommender.counting import counted_rows, is_labelled, split_of
from recommender.facts import DataFacts, Facts, Machine
from recommender.recommendation import Hours, Method, Precision, Settings
from recommender.shape import Shape

WORK_PER_PARAMETER: dict[Method, float] = {"full": 6.0, "lora": 4.0, "qlora": 4.0}
"""Multiply-adds counted as two operations: forward 2, backward 4, of which LoRA skips the weight gradients (E2)."""
SLOWDOWN: dict[Method, float] = {"full": 1.0, "lora": 1.15, "qlora": 1.6}
"""Beyond the multiply-adds: adapters are extra small operations (E10), 4-bit weights are unpacked each time
(E21: 1.38 in the median, up to 2.05)."""
SLOWDOWN_CPU_4BIT = 3.0
"""On a CPU unpacking is a larger share of a step: 2.6 to 3.6 times LoRA's step, measured on MiniLM, 2 cores."""
CPU_CORE_FLOPS = 35e9
"""Of one core in fp32 where nothing was measured: what two shared cores of a cloud machine reached together, halved."""
EFFICIENCY = 0.4
"""Share of the matrix-multiply speed that a whole step reaches; 41% was measured on short rows."""
CHECKPOINTING = 1.27
"""Times as long with gradient checkpointing (E25)."""
SCALING = 0.85
"""Of each further device's speed that reaches the run: the rest goes into exchanging gradients (K)."""
HOST = 1.2
"""What Python, autograd and cold caches add to the operations of a step on a CPU: the middle of four steps of MiniLM, full
(benchmarks/prediction/times.py; the other cells there have not been looked at for it)."""
TRIED = (0.75, 1.5)
"""Interval of the time, where a step's own operations were tried on this machine."""
START_UP_SECONDS = 25.0
"""Importing, loading, tokenising and the final save."""
FIT_ROWS = 500
"""Training rows at most that are scored once more at the end, to show overfitting."""
ANSWERS: dict[str, int] = {"chat": 32, "instruction": 32, "seq2seq": 100}
"""Held-out rows, by task, whose answers a model writes before and after training: a token at a time takes long. Fewer where a
question has many good answers, and perplexity tells more."""
ANSWER_TOKENS = 256
"""The longest of them; an untuned model seldom comes to an end before."""
ANSWERS_AT_ONCE = 4
"""Token budgets that are written at once: nothing but the cache is kept, and every step reads all weights. On a CPU 22 rows of
SmolLM2 at once are 1.6 times as fast as 5, with the same peak of memory."""
CPU_BANDWIDTH = 10e9
"""Bytes a second that two shared cores read weights with while they write."""
LAYER_SECONDS = 0.9e-3
"""Of a layer on a GPU for each token: the time goes into starting kernels. What transformers' `generate` takes."""
MIG_SLICES = 7
"""Compute slices of a whole card: `MIG 2g.20gb` has two of them."""
_MIG = re.compile(r"MIG (\d)g", re.IGNORECASE)

PUBLISHED_FLOPS: tuple[tuple[str, float], ...] = (
    ("B200", 2250e12),
    ("H200", 989e12),
    ("H100", 989e12),
    ("H20", 148e12),
    ("A100", 312e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("A6000", 155e12),
    ("A5000", 111e12),
    ("A4000", 77e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("A30", 165e12),
    ("A40", 150e12),
    ("L4", 121e12),
    ("V100", 112e12),
    ("T4", 65e12),
    ("P100", 19e12),
    ("MI355", 2500e12),
    ("MI350", 2300e12),
    ("MI325", 1307e12),
    ("MI300", 1307e12),
    ("MI250", 191e12),
    ("MI210", 181e12),
    ("7900", 123e12),
    ("PRO 6000", 500e12),
    ("6000 Ada", 364e12),
    ("5090", 210e12),
    ("5080", 113e12),
    ("5070", 62e12),
    ("4090", 165e12),
    ("4080", 98e12),
    ("4070", 58e12),
    ("4060", 30e12),
    ("4050", 20e12),
    ("3090", 71e12),
    ("3080", 60e12),
    ("3070", 41e12),
    ("3060", 25e12),
    ("3050", 18e12),
    ("2080", 43e12),
    ("2070", 30e12),
    ("2060", 26e12),
    ("1660", 10e12),
    ("1650", 6e12),
    ("1080", 9e12),
    ("A770", 70e12),
)
"""Dense 16-bit tensor throughput with fp32 accumulation, from the vendors' data sheets, operations per second. Of an MI250 one
die, which is what torch sees as a device."""
APPLE_FLOPS: tuple[tuple[str, float], ...] = (("Ultra", 27e12), ("Max", 14e12), ("Pro", 7e12), ("", 4e12))
"""Apple's chips by size, in fp32."""
UNKNOWN_FLOPS = 40e12
"""Taken for a device whose name says nothing."""


def device_flops(machine: Machine, facts: Facts, precision: Precision) -> tuple[float, bool]:
    """Matrix-multiply speed in operations a second, and whether it was measured on this device."""
    table = facts.measured.matmul_flops or {}
    measured = table.get(precision.removesuffix("-mixed"))
    if measured:
        return measured, True
    if machine.device is None:
        return CPU_CORE_FLOPS * (machine.cpu_cores or 4), False
    name = machine.device.name or ""
    if machine.backend == "mps":
        return next(flops for key, flops in APPLE_FLOPS if key in name), False
    # A name ends where its digits end: an RTX A1000 is no A100.
    published = next((flops for key, flops in PUBLISHED_FLOPS if re.search(rf"(?<!\d){key}(?!\d)", name)), UNKNOWN_FLOPS)
    slices = _MIG.search(name)
    if slices:
        published *= min(int(slices[1]), MIG_SLICES) / MIG_SLICES
    return (published if precision != "fp32" else published / 4), False


def _step_flops(facts: Facts, method: Method, precision: Precision) -> tuple[float, bool]:
    """`device_flops`; for bf16 on a CPU what fp32 does there, times the speedup that a trial of the whole step has shown."""
    trial = (facts.measured.bf16 or {}).get(method)
    if facts.machine.device is not None or precision != "bf16-mixed":
        return device_flops(facts.machine, facts, precision)
    flops, calibrated = device_flops(facts.machine, facts, "fp32")
    return flops * (trial.speedup if trial is not None else 1.0), calibrated and trial is not None


def tokens_kept(data: DataFacts, length: int) -> int:
    """Tokens of one pass over the rows after truncation to `length`."""
    rows = counted_rows(data)
    for cut in data.truncation:
        if cut.length == length:
            return cut.tokens_kept
    median = min(data.tokens_p50 or 128, length)
    upper = min(data.tokens_p95 or 2 * median, length)
    total = data.tokens_total if data.tokens_total is not None else rows * (data.tokens_p50 or 128)
    if data.task == "continued_pretraining":
        return total
    return min(total, rows * (median + upper) // 2)


def predict(facts: Facts, shape: Shape, method: Method, settings: Settings, devices: int = 1) -> Hours:
    """Hours of a run: training, evaluations on the carved rows, both final scores, written answers and start-up."""
    aside = START_UP_SECONDS + _writing(facts, shape, method, settings)
    per_step = (facts.measured.seconds_per_step or {}).get(method)
    if per_step:
        hours = (settings.total_steps * per_step * 1.1 + aside) / 3600
        return Hours(predicted=hours, low=0.9 * hours, high=1.2 * hours, origin="measured")
    flops, calibrated = _step_flops(facts, method, settings.precision)
    flops *= 1 + SCALING * (devices - 1)
    length = settings.max_length
    pass_tokens = tokens_kept(facts.data, length)
    body = shape.active_linear_parameters if is_labelled(facts.data) else shape.active_parameters
    body += 2 * shape.blocks * shape.hidden * length // 2  # attention scores, small beside the linear maps
    unique = max(counted_rows(facts.data), 1)
    share = split_of(facts.data).train / unique
    train = _work(shape, method, settings, facts.machine.device is None) * body * pass_tokens * share * settings.epochs
    evaluation_rows = (facts.data.eval_rows or 0) / unique
    validation = split_of(facts.data).validation / unique
    held_out = max(evaluation_rows, split_of(facts.data).held_out / unique)
    passes = validation * settings.evaluations + 2 * held_out + min(FIT_ROWS / unique, 1)
    evaluate = 2.0 * body * pass_tokens * passes
    seconds = (train + evaluate) / (flops * EFFICIENCY) + aside
    low, high = (0.6, 1.7) if calibrated else (0.4, 2.5)
    tried = traced.seconds_per_token(facts, method, settings.precision, settings.gradient_checkpointing)
    if tried is not None and settings.trained == "all" and devices == 1:
        seconds = pass_tokens * (share * settings.epochs * tried[0] + passes * tried[1]) * HOST + aside
        low, high = TRIED
    hours = seconds / 3600
    known = (facts.machine.device or facts.machine.cpu_cores) and facts.data.tokens_p50 is not None and not shape.assumed
    return Hours(predicted=hours, low=low * hours, high=high * hours, origin="estimated" if known else "assumed")


def _writing(facts: Facts, shape: Shape, method: Method, settings: Settings) -> float:
    """Seconds in which answers are written, before and after: each token of a piece reads all weights once."""
    data, on_cpu = facts.data, facts.machine.device is None
    answers = min(ANSWERS.get(data.task or "", 0), data.eval_rows or split_of(data).held_out)
    if not answers:
        return 0.0
    longest = min(data.tokens_p95 or settings.max_length, settings.max_length)
    new = min(ANSWER_TOKENS, longest)
    at_once = max(1, ANSWERS_AT_ONCE * settings.token_budget // (longest + new))
    pieces = -(-answers // at_once)
    if not on_cpu:
        return 2 * pieces * new * shape.blocks * LAYER_SECONDS * SLOWDOWN[method]
    flops, _ = _step_flops(facts, method, settings.precision)
    reading = 4 * shape.parameters / CPU_BANDWIDTH * (SLOWDOWN_CPU_4BIT if method == "qlora" else 1)
    return 2 * new * (pieces * reading + answers * 2 * shape.active_parameters / flops)


def _work(shape: Shape, method: Method, settings: Settings, on_cpu: bool) -> float:
    """Operations for each parameter and token, what slows the method down included."""
    slow = SLOWDOWN_CPU_4BIT if method == "qlora" and on_cpu else SLOWDOWN[method]
    work = WORK_PER_PARAMETER[method] * slow
    if settings.trained == "last_layers":
        work = 2 + 4 * min((settings.last_layers or 1) / max(shape.layers, 1), 1)
    return work * (CHECKPOINTING if settings.gradient_checkpointing else 1)
