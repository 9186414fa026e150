"""Wall-clock time from facts: work in floating-point operations over the speed of this machine."""

from recommender.facts import CLASSIFYING, DataFacts, Facts, Machine
from recommender.hyper import counted_rows
from recommender.recommendation import Hours, Method, Precision
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
START_UP_SECONDS = 25.0
"""Importing, loading, tokenising and the final save."""

PUBLISHED_FLOPS: tuple[tuple[str, float], ...] = (
    ("H200", 989e12),
    ("H100", 989e12),
    ("A100", 312e12),
    ("L40", 181e12),
    ("A6000", 155e12),
    ("A10", 125e12),
    ("L4", 121e12),
    ("V100", 112e12),
    ("T4", 65e12),
    ("5090", 210e12),
    ("4090", 165e12),
    ("4080", 98e12),
    ("4070", 58e12),
    ("4060", 30e12),
    ("3090", 71e12),
    ("3080", 60e12),
    ("3070", 41e12),
    ("3060", 25e12),
)
"""Dense 16-bit tensor throughput with fp32 accumulation, from the vendors' data sheets, operations per second."""


def device_flops(machine: Machine, facts: Facts, precision: Precision) -> tuple[float, bool]:
    """Matrix-multiply speed in operations a second, and whether it was measured on this device."""
    table = facts.measured.matmul_flops or {}
    measured = table.get(precision.removesuffix("-mixed"))
    if measured:
        return measured, True
    if machine.device is None:
        return CPU_CORE_FLOPS * (machine.cpu_cores or 4), False
    name = machine.device.name or ""
    published = next((flops for key, flops in PUBLISHED_FLOPS if key in name), 40e12)
    return (published if precision != "fp32" else published / 4), False


def tokens_kept(data: DataFacts, length: int) -> int:
    """Tokens of one pass over the rows after truncation to `length`."""
    rows = counted_rows(data)
    for cut in data.truncation:
        if cut.length == length:
            return cut.tokens_kept
    median = min(data.tokens_p50 or 128, length)
    upper = min(data.tokens_p95 or 2 * median, length)
    total = data.tokens_total if data.tokens_total is not None else rows * (data.tokens_p50 or 128)
    return min(total, rows * (median + upper) // 2)


def predict(
    facts: Facts,
    shape: Shape,
    method: Method,
    precision: Precision,
    *,
    length: int,
    epochs: float,
    total_steps: int,
    training_share: float,
    evaluations: int,
) -> Hours:
    """Hours of a run: training, evaluations on the carved rows, both final scores and start-up."""
    per_step = (facts.measured.seconds_per_step or {}).get(method)
    if per_step:
        hours = (total_steps * per_step * 1.1 + START_UP_SECONDS) / 3600
        return Hours(predicted=hours, low=0.9 * hours, high=1.2 * hours, origin="measured")
    flops, calibrated = device_flops(facts.machine, facts, precision)
    pass_tokens = tokens_kept(facts.data, length)
    head_only = (facts.data.task or "classification") in CLASSIFYING
    body = shape.linear_parameters if head_only else shape.parameters
    body += 2 * shape.layers * shape.hidden * length // 2  # attention scores, small beside the linear maps
    slow = SLOWDOWN[method]
    if method == "qlora" and facts.machine.device is None:
        slow = SLOWDOWN_CPU_4BIT
    train = WORK_PER_PARAMETER[method] * slow * body * pass_tokens * training_share * epochs
    evaluation_rows = (facts.data.eval_rows or 0) / max(counted_rows(facts.data), 1)
    passes = (1 - training_share) * evaluations + 2 * max(evaluation_rows, 1 - training_share) + 1
    evaluate = 2.0 * body * pass_tokens * passes
    seconds = (train + evaluate) / (flops * EFFICIENCY) + START_UP_SECONDS
    low, high = (0.6, 1.7) if calibrated else (0.4, 2.5)
    hours = seconds / 3600
    known = (facts.machine.device or facts.machine.cpu_cores) and facts.data.tokens_p50 is not None and not shape.assumed
    return Hours(predicted=hours, low=low * hours, high=high * hours, origin="estimated" if known else "assumed")
