"""Several trainers in turns: each in a process of its own, made ready first, then a step each, the order rotating.

Whatever else the machine does then falls on all of them alike, so ratios hold where seconds do not. Finished turns are
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
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]


class Stepper(Protocol):
    """A trainer, a step a call."""

    def step(self) -> tuple[int, float]:
        """Take one step; how many units (rows or tokens) it trained on, and its mean loss."""

    def skip(self) -> None:
        """Pass over the batches of one step."""


class TrainerStepper:
    """Any transformers Trainer, a step (or a whole pass) a call: what its own loop does, less logging and callbacks."""

    def __init__(
        self,
        trainer: Any,
        count: Callable[[Any], int],
        total_steps: int,
        *,
        weigh: Callable[[Any], int] | None = None,
        whole_pass: bool = False,
    ) -> None:
        """`count(batch)` tells the units of a batch, `weigh` what its loss is a mean over; the schedule has `total_steps`."""
        self._trainer, self._count, self._weigh = trainer, count, weigh or count
        self._loader = trainer.get_train_dataloader()
        self._steps = len(self._loader) if whole_pass else 1
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

    def step(self) -> tuple[int, float]:
        """Forward, backward, clipping, optimizer, schedule."""
        trainer, units, weight, total = self._trainer, 0, 0, 0.0
        for _ in range(self._steps):
            batch = self._next()
            size, counts = self._count(batch), self._weigh(batch)
            loss = trainer.training_step(self._model, batch)
            trainer._clip_grad_norm(self._model)
            trainer.optimizer.step()
            trainer.lr_scheduler.step()
            self._model.zero_grad()
            trainer.state.global_step += 1
            units += size
            weight += counts
            total += counts * float(loss)  # reading it waits for the device
        return units, total / weight

    def skip(self) -> None:
        """Leave batches out."""
        for _ in range(self._steps):
            self._next()


def serve(ready: Stepper, done: int) -> None:
    """A child: a line on stdin asks for one step, a line on stdout answers with units, seconds, loss and peak memory."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    for _ in range(done):
        ready.skip()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        units, loss = ready.step()
        print(json.dumps([units, time.perf_counter() - started, loss, memory_peak()]), file=answers, flush=True)


def memory_peak() -> int:
    """The most bytes this process has held: on the GPU where it uses one, else in memory."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a side has done, without its warm-up."""

    units: int
    seconds: tuple[float, ...]
    losses: tuple[float, ...]
    """The warm-up's too."""
    memory: int

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / sum(self.seconds)


def in_turns(
    module: str, sides: Mapping[str, Mapping[str, str]], arguments: Sequence[str], *, steps: int, warm_up: int, record: Path
) -> dict[str, Taken]:
    """Take `warm_up` and `steps` steps with each side; `sides` gives each its environment.

    Raises:
        RuntimeError: a side did not start; its messages stand above.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    turns: list[dict[str, Any]] = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    if len(turns) < warm_up + steps:
        # Steps after a restart are warmed up too, by steps that do not count.
        again = warm_up if turns else 0
        children = {side: _child(module, side, arguments, env, len(turns)) for side, env in sides.items()}
        try:
            for child in children.values():
                if child.stdout is None or child.stdout.readline().strip() != "ready":
                    raise RuntimeError("a side did not start; its messages stand above")
            names = list(sides)
            while len(turns) < warm_up + steps:
                first = len(turns) % len(names)
                turn = {side: _one_step(children[side]) for side in names[first:] + names[:first]}
                if again:
                    again -= 1
                    continue
                turns.append(turn)
                with record.open("a") as file:
                    file.write(json.dumps(turn) + "\n")
                print(f"turn {len(turns)} of {warm_up + steps}", file=sys.stderr, flush=True)
        finally:
            for child in children.values():
                child.terminate()
    found = {}
    for side in sides:
        units, seconds, losses, memory = zip(*(turn[side] for turn in turns), strict=True)
        found[side] = Taken(sum(units[warm_up:]), seconds[warm_up:], losses, max(memory))
    return found


def _child(module: str, side: str, arguments: Sequence[str], env: Mapping[str, str], done: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module, "serve", side, *arguments, "--done", str(done)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=dict(env),
    )


def _one_step(child: "subprocess.Popen[str]") -> list[float]:
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child has no pipes")
    print("step", file=child.stdin, flush=True)
    found: list[float] = json.loads(child.stdout.readline())
    return found


def told(taken: Mapping[str, Taken], unit: str) -> dict[str, Any]:
    """The figures of a result file."""
    return {
        f"{unit}_per_second": {side: round(t.rate, 2) for side, t in taken.items()},
        "median_seconds_a_step": {side: round(statistics.median(t.seconds), 3) for side, t in taken.items()},
        "first_loss": {side: round(t.losses[0], 4) for side, t in taken.items()},
        "last_loss": {side: round(t.losses[-1], 4) for side, t in taken.items()},
        "peak_memory": {side: t.memory for side, t in taken.items()},
    }


def environments() -> tuple[dict[str, str], dict[str, str]]:
    """That of a script somebody starts, and that of Loracle's worker: they differ in the allocator and in how threads wait."""
    from engine.launch import environment

    ours = environment()
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "OMP_"))}
    plain |= {k: ours[k] for k in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY")}
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
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def matmul_peak(sizes: Sequence[tuple[int, int, int]] = ((2048, 2048, 2048),), repeats: int = 15) -> float:
    """fp32 floating-point operations a second of torch's own matrix product here, the best of some."""
    import torch

    best = 0.0
    for m, k, n in sizes:
        a, b = torch.randn(m, k), torch.randn(k, n)
        for _ in range(repeats):
            started = time.perf_counter()
            a @ b
            best = max(best, 2 * m * k * n / (time.perf_counter() - started))
    return best
