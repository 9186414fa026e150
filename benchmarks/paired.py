"""Several trainers in turns: each in a process of its own, made ready first, then a step each, whoever is furthest behind next.

Whatever else the machine does then falls on all of them alike, so ratios hold where seconds do not. Finished steps are
kept in a file: a comparison that was cut off goes on where it stood (a side then skips the batches it had already trained
on). A benchmark module defines `SIDES` and `stepper(side, ...)` and serves itself with `serve`.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from engine.installed import version

ROOT = Path(__file__).resolve().parents[1]


class Stepper(Protocol):
    """A trainer, a step a call."""

    def step(self) -> tuple[int, int, float]:
        """Take one step; the units (rows or tokens) it trained on, what its loss is a mean over, and that loss."""

    def skip(self) -> None:
        """Pass over the batch of one step."""


class TrainerStepper:
    """Any transformers Trainer, a step a call: what its own loop does, less logging and callbacks."""

    def __init__(
        self, trainer: Any, count: Callable[[Any], int], total_steps: int, *, weigh: Callable[[Any], int] | None = None
    ) -> None:
        """`count(batch)` tells the units of a batch, `weigh` what its loss is a mean over; the schedule has `total_steps`."""
        self._trainer, self._count, self._weigh = trainer, count, weigh or count
        self._loader = trainer.get_train_dataloader()
        self.a_pass = len(self._loader)
        trainer.current_gradient_accumulation_steps = 1
        trainer.create_optimizer_and_scheduler(total_steps)
        self._model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
        trainer.model_wrapped = self._model
        self._batches = iter(())

    def _next(self) -> Any:
        try:
            return next(self._batches)
        except StopIteration:
            self._batches = iter(self._loader)
            return next(self._batches)

    def step(self) -> tuple[int, int, float]:
        """Forward, backward, clipping, optimizer, schedule."""
        trainer, batch = self._trainer, self._next()
        units, weight = self._count(batch), self._weigh(batch)
        loss = trainer.training_step(self._model, batch)
        trainer._clip_grad_norm(self._model)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
        self._model.zero_grad()
        trainer.state.global_step += 1
        return units, weight, float(loss)  # reading it waits for the device

    def skip(self) -> None:
        """Leave a batch out."""
        self._next()


def serve(ready: Stepper, done: int, steps: int) -> None:
    """A child that takes `steps` steps, `done` of them in an earlier life: a line on stdin asks for one, one on stdout tells."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    for _ in range(done):
        ready.skip()
    print(steps, file=answers, flush=True)
    for _ in sys.stdin:
        started, computed = time.perf_counter(), time.process_time()
        units, weight, loss = ready.step()
        step = Step(units, weight, loss, time.perf_counter() - started, time.process_time() - computed, memory_peak())
        print(json.dumps(asdict(step)), file=answers, flush=True)


def memory_peak() -> int:
    """The most bytes this process has held: on the GPU where it uses one, else in memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a side."""

    units: int
    weight: int
    """What the loss is a mean over."""
    loss: float
    seconds: float
    computed: float
    """Seconds that its threads computed, both cores together: what else runs on the machine hardly shows in them."""
    memory: int
    """The most bytes held so far."""
    timed: bool = True
    """False while threads, caches and optimizer states come into being."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a side has done."""

    steps: tuple[Step, ...]

    @property
    def timed(self) -> list[Step]:
        """Those that count for speed."""
        return [s for s in self.steps if s.timed]

    @property
    def rate(self) -> float:
        """Units a second."""
        return sum(s.units for s in self.timed) / sum(s.seconds for s in self.timed)

    @property
    def rate_computed(self) -> float:
        """Units a second of computing, on one core."""
        return sum(s.units for s in self.timed) / sum(s.computed for s in self.timed)

    @property
    def loss(self) -> float:
        """Over all steps."""
        return sum(s.weight * s.loss for s in self.steps) / sum(s.weight for s in self.steps)


def in_turns(
    module: str, sides: Mapping[str, Mapping[str, str]], arguments: Sequence[str], *, warm_up: int, record: Path
) -> dict[str, Taken]:
    """Let each side take its steps, whoever is furthest behind the next; `sides` gives each its environment.

    The first `warm_up` steps of a process do not count for speed.

    Raises:
        RuntimeError: a side did not start, or ended; its messages stand above.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    taken: dict[str, list[Step]] = {side: [] for side in sides}
    for line in record.read_text().splitlines() if record.exists() else []:
        side, step = json.loads(line)
        taken[side].append(Step(**step))
    wanted_file = record.with_suffix(".steps")
    wanted: dict[str, int] = json.loads(wanted_file.read_text()) if wanted_file.exists() else {}
    if all(side in wanted and len(taken[side]) >= wanted[side] for side in sides):
        return {side: Taken(tuple(steps)) for side, steps in taken.items()}
    children = {side: _child(module, side, arguments, env, len(taken[side])) for side, env in sides.items()}
    try:
        wanted = {side: int(_answer(child)) for side, child in children.items()}
        wanted_file.write_text(json.dumps(wanted))
        cold = dict.fromkeys(sides, warm_up)
        last = ""
        while behind := [side for side in sides if len(taken[side]) < wanted[side]]:
            side = min(behind, key=lambda s: (len(taken[s]) / wanted[s], s == last))
            step = replace(Step(**_one_step(children[side])), timed=cold[side] <= 0)
            cold[side] -= 1
            last = side
            taken[side].append(step)
            with record.open("a") as file:
                file.write(json.dumps([side, asdict(step)]) + "\n")
            print(f"{side}: {len(taken[side])} of {wanted[side]}", file=sys.stderr, flush=True)
    finally:
        for child in children.values():
            child.terminate()
            child.wait()
    return {side: Taken(tuple(steps)) for side, steps in taken.items()}


def beside(
    module: str, pairs: Sequence[tuple[str, str]], arguments: Sequence[str], *, warm_up: int, record: Path, unit: str
) -> dict[str, tuple[dict[str, Any], dict[str, Taken]]]:
    """Loracle's side and a peer in turns, one pair after the other, so that memory holds two processes; told, and as taken.

    Peers of the name `..._same_allocator` get the environment of Loracle's worker, others that of any script.
    """
    plain, ours = environments()
    found = {}
    for own, peer in pairs:
        name = peer if own == "loracle" else f"{own}, {peer}"
        sides = {own: ours, peer: ours if peer.endswith("allocator") else plain}
        taken = in_turns(module, sides, arguments, warm_up=warm_up, record=record.with_name(f"{record.name}-{own}-{peer}.jsonl"))
        times = {
            "loracle_times": round(taken[own].rate / taken[peer].rate, 2),
            "loracle_times_by_processor_time": round(taken[own].rate_computed / taken[peer].rate_computed, 2),
        }
        found[name] = (times | told(taken, unit), taken)
    return found


def share_of_peak(
    operations: float, pairs: Mapping[str, tuple[dict[str, Any], dict[str, Taken]]], precision: str = "fp32"
) -> dict[str, float]:
    """What part of the matrix-product peak in that precision, measured here and now, the useful products of Loracle's steps are.

    `operations` are those of one row or token. All by the seconds that the cores computed: other work on the machine, which would
    fall on the steps and not on the peak, does not show in them; nor does a core that waits for the other.
    """
    own = [taken["loracle"] for _, taken in pairs.values() if "loracle" in taken]
    peak, reached = matmul_peak(precision), max(t.rate_computed for t in own) * operations
    return {
        "peak_gflops_a_core": round(peak / 1e9, 1),
        "reached_gflops_a_core": round(reached / 1e9, 1),
        "share": round(reached / peak, 3),
    }


def _child(module: str, side: str, arguments: Sequence[str], env: Mapping[str, str], done: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module, "serve", side, *arguments, "--done", str(done)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=dict(env),
    )


def _one_step(child: "subprocess.Popen[str]") -> dict[str, Any]:
    if child.stdin is None:
        raise RuntimeError("the child has no pipes")
    print("step", file=child.stdin, flush=True)
    found: dict[str, Any] = json.loads(_answer(child))
    return found


def _answer(child: "subprocess.Popen[str]") -> str:
    line = child.stdout.readline() if child.stdout is not None else ""
    if not line:
        raise RuntimeError("a side did not start, or ended; its messages stand above")
    return line


def told(taken: Mapping[str, Taken], unit: str) -> dict[str, Any]:
    """The figures of a result file."""
    return {
        f"{unit}_per_second": {side: round(t.rate, 2) for side, t in taken.items()},
        f"{unit}_per_second_of_processor_time": {side: round(t.rate_computed, 2) for side, t in taken.items()},
        "median_seconds_a_step": {side: round(statistics.median(s.seconds for s in t.timed), 3) for side, t in taken.items()},
        "timed_steps": {side: len(t.timed) for side, t in taken.items()},
        "mean_loss": {side: round(t.loss, 4) for side, t in taken.items()},
        "peak_memory": {side: max(s.memory for s in t.steps) for side, t in taken.items()},
    }


def environments() -> tuple[dict[str, str], dict[str, str]]:
    """That of a script somebody starts, and that of Loracle's worker: they differ in the allocator.

    Threads wait for one another in the same way on both sides: what is best depends on what else the machine does
    (`benchmarks/waiting.py`), so a script's own way would be compared with the hour and not with Loracle.
    """
    from engine.launch import ALLOCATOR, environment

    ours = environment()
    plain = {k: v for k, v in os.environ.items() if k not in ALLOCATOR and not k.startswith(("MALLOC_", "OMP_", "GOMP_"))}
    same = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY")
    plain |= {k: ours[k] for k in same if k in ours}
    return plain, ours


def machine(*packages: str) -> dict[str, Any]:
    """What the numbers were taken on."""
    from engine.inspect import inspect_machine

    here = inspect_machine()
    return {
        "cpu": here.cpu_name,
        "cores": here.cpu_cores,
        "gpu": [d.name for d in here.devices],
        "memory": here.ram_total,
        "load_average": [round(x, 1) for x in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions("torch", "transformers", "accelerate", "peft", "tokenizers", *packages),
    }


def versions(*packages: str) -> dict[str, str]:
    """Of those that are installed."""
    return {name: found for name in packages if (found := version(name)) is not None}


def matmul_peak(precision: str = "fp32", size: int = 2048, repeats: int = 15) -> float:
    """Operations of torch's square matrix product in a second of one core, the best of some, by its faster library."""
    import torch

    from engine.worker import products

    products.take_faster()
    a, b = torch.randn(2, size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    computed = []
    for _ in range(repeats):
        started = time.process_time()
        a @ b
        computed.append(time.process_time() - started)
    return 2 * size**3 / min(computed)
