"""Tokens a second of instruction tuning: Loracle's step and TRL's SFTTrainer, same model, rows, method and effective batch.

Random weights and token ids; lengths as instruction data has them. Real tokens are counted, padding is not.
"""

import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import gauges, peers
from benchmarks.gpu.models import Kind, built, device_of, lengths, plan_of, rows_of
from benchmarks.gpu.results import Lines, without_numbers_first
from benchmarks.gpu.step import EngineStep
from engine.worker.liger import Liger
from engine.worker.tasks.base import Encoded
from recommender.plan import Plan

Rows = tuple[list[list[int]], list[list[int]]]
"""Token ids, and labels."""
WARM, TIMED = 2, 4
"""Steps; the first make workspaces, compile Liger's kernels and the optimizer's moments."""
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "4090": 165e12, "3090": 71e12}
"""Published dense bf16 operations a second."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One model and method: what is compared."""

    kind: Kind
    method: str
    setups: tuple[peers.Setup, ...] = peers.SETUPS
    checkpointing: bool = False
    token_budget: int = 16_384
    settings: tuple[tuple[str, Any], ...] = ()
    """Of Loracle's plan, beside the usual ones; TRL computes in the same precision, by the same optimizer."""

    def key(self, side: peers.Setup | None) -> str:
        """The name of one side: Loracle's, or one of TRL's."""
        more = "".join(f"-{name}={value}" for name, value in self.settings)
        return f"{self.kind.name}-{self.method}{more}-{'loracle' if side is None else f'trl-{side.name}'}"

    @property
    def sides(self) -> tuple[peers.Setup | None, ...]:
        """Loracle first."""
        return (None, *self.setups)


def pairs(smoke: bool) -> Iterator[Pair]:
    """The comparisons, the most telling first."""
    documented, plain, liger, _ = peers.SETUPS
    if smoke:
        for method in ("full", "lora", "qlora"):
            yield Pair(Kind("llama-0.5b", True), method, (documented, plain))
        yield Pair(Kind("llama-0.5b", True), "full", (plain,), settings=(("precision", "bf16"),))
        return
    yield Pair(Kind("llama-1b"), "lora")
    yield Pair(Kind("llama-8b"), "qlora", (liger,), token_budget=8192, checkpointing=True)
    yield Pair(Kind("llama-1b"), "full", (plain, liger))
    yield Pair(Kind("llama-8b"), "lora", (liger,), token_budget=8192)
    yield Pair(Kind("llama-0.5b"), "full", (plain, liger))
    yield Pair(Kind("llama-1b"), "qlora", (plain, liger))
    yield Pair(Kind("llama-3b"), "lora", (liger,))
    yield Pair(Kind("llama-3b"), "full", (liger,), token_budget=8192, checkpointing=True)
    yield Pair(Kind("llama-0.5b"), "lora", (plain, liger))
    yield Pair(Kind("llama-0.5b"), "qlora", (plain, liger))
    yield Pair(Kind("llama-3b"), "qlora", (liger,))
    # Where a card has no bf16; with Liger's kernels in Loracle's own step; and all of 8B, for which 16 and 8 bit are needed.
    yield Pair(Kind("llama-0.5b"), "lora", (plain,), settings=(("precision", "fp16-mixed"),))
    for method in ("lora", "full"):
        yield Pair(Kind("llama-1b"), method, (), settings=(("kernels", "liger"),))
    narrow = (("precision", "bf16"), ("optimizer", "adamw_8bit"))
    yield Pair(Kind("llama-8b"), "full", (liger,), token_budget=8192, checkpointing=True, settings=narrow)
    # As documented TRL takes several times as long: last.
    yield from (Pair(Kind(n), m, (documented,)) for n, m in (("llama-1b", "full"), ("llama-0.5b", "full"), ("llama-8b", "qlora")))


def run(lines: Lines, smoke: bool) -> None:
    """Every side of every pair that is not known yet."""
    device = device_of(smoke)
    for pair in without_numbers_first("speed", pairs(smoke), lambda pair: [pair.key(side) for side in pair.sides]):
        counts = lengths(peers.BATCH * (WARM + TIMED), longest=64 if smoke else 1024, median=20 if smoke else 150)
        rows = rows_of(counts, pair.kind.config().vocab_size)
        for side in pair.sides:
            key = pair.key(side)
            if not lines.wanted(key, seconds=7):
                continue
            with lines.trying(key):
                _side(lines, key, pair, side=side, rows=rows, device=device)


def _side(lines: Lines, key: str, pair: Pair, *, side: peers.Setup | None, rows: Rows, device: torch.device) -> None:
    work = Path(tempfile.mkdtemp(prefix="loracle-gpu-"))
    gauges.tidy()
    about: dict[str, Any] = {"model": pair.kind.name, "method": pair.method, "side": "loracle" if side is None else "trl"}
    about |= {"checkpointing": pair.checkpointing if side is None else side.checkpointing}
    try:
        if side is None:
            found = loracle(pair, rows, device, work)
        else:
            about["setup"] = side.name
            plan = _plan(pair)
            found = peers.steps(pair.kind, plan, side, rows=rows, count=WARM + TIMED, device=device, work=work)
    except Exception as error:
        if not gauges.is_full(error):
            raise
        lines.write(key, **about, result="out_of_memory")
        return
    finally:
        gauges.tidy()
        shutil.rmtree(work, ignore_errors=True)
    timed = found["seconds"][WARM:]
    each = found.get("tokens") or [found["tokens_per_step"]] * (WARM + TIMED)
    rate = sum(each[WARM:]) / sum(timed)
    peak = published_peak(torch.cuda.get_device_name() if device.type == "cuda" else None)
    work_done = operations(pair, rows) / sum(map(len, rows[0]))
    lines.write(
        key,
        **about,
        result="ok",
        **found,
        tokens_per_second=rate,
        median_seconds=statistics.median(timed),
        operations_per_second=rate * work_done,
        share_of_published_peak=rate * work_done / peak if peak else None,
    )


def loracle(pair: Pair, rows: Rows, device: torch.device, work: Path) -> dict[str, Any]:
    """The engine's steps over the rows, in their order."""
    plan = _plan(pair)
    model, task = built(pair.kind, plan, device)
    stepper = EngineStep(model, task, Encoded(rows[0], rows[1], [0] * len(rows[0])), work)
    seconds: list[float] = []
    losses: list[float] = []
    with contextlib.ExitStack() as inside:
        if plan.kernels == "liger":
            inside.callback(Liger(model).undo)
        del model
        for place, which in _batches(len(rows[0])):
            if place == 1 and device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds += gauges.seconds(lambda which=which: losses.append(stepper.step(which)), 1)  # type: ignore[misc]
    cuda = device.type == "cuda"
    return {
        "seconds": seconds,
        "losses": losses,
        "tokens": [sum(len(rows[0][i]) for i in which) for _, which in _batches(len(rows[0]))],
        "allocated": int(torch.cuda.max_memory_allocated()) if cuda else 0,
        "reserved": int(torch.cuda.max_memory_reserved()) if cuda else 0,
        "packed": bool(getattr(stepper.task, "packed", False)),
        "token_budget": [pair.token_budget, *(after for _, after in stepper.recovered)],
    }


def _plan(pair: Pair) -> Plan:
    settings = dict(pair.settings)
    return plan_of(pair.kind, pair.method, checkpointing=pair.checkpointing, token_budget=pair.token_budget, **settings)


def _batches(rows: int) -> Iterator[tuple[int, list[int]]]:
    for place, begin in enumerate(range(0, rows - peers.BATCH + 1, peers.BATCH)):
        yield place, list(range(begin, begin + peers.BATCH))


def operations(pair: Pair, rows: Rows) -> float:
    """Floating-point operations that the mathematics of training on these rows needs, recomputation not counted.

    Each weight a token passes costs 2 forward, 2 for the gradient of its input and, where it is trained, 2 for its own. The
    head is counted at learned tokens, attention over the earlier tokens of the own sequence only.
    """
    config = pair.kind.config()
    width, layers = config.hidden_size, config.num_hidden_layers
    kv = width * config.num_key_value_heads // config.num_attention_heads
    body = layers * (2 * width * width + 2 * width * kv + 3 * width * config.intermediate_size)
    tokens = sum(map(len, rows[0]))
    learned = sum(sum(x != -100 for x in row[1:]) for row in rows[1])
    attended = sum(n * (n + 1) / 2 for n in map(len, rows[0])) * 2 * width * layers
    passes = 6 if pair.method == "full" else 4
    adapters = 0.0
    if pair.method != "full":
        shapes = [(width, width), (width, width), (width, kv), (width, kv), *[(width, config.intermediate_size)] * 3]
        adapters = 16.0 * layers * sum(a + b for a, b in shapes) * tokens * 6
    products = passes * (body * tokens + width * config.vocab_size * learned)
    return float(products + 6 * attended + adapters)


def published_peak(name: str | None) -> float | None:
    """bf16 operations a second of a card of that name."""
    return next((peak for part, peak in PEAK.items() if name and part in name), None)
