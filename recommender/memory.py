"""Peak memory from facts, before anything is loaded, against what is free on the devices a run can use.

Where a trace has counted the step (`traced.py`), its number holds, and steps of other sizes follow from its fit. Else
peak = 1.1 x (weights, gradients, optimizer states, activations, logits, runtime), within 92% of what is free
(docs/method-guide.md, section 2: E10, E21-E23, E31). Several devices hold a copy each where one copy fits, else the states are
divided among them.
"""

import math
from typing import NamedTuple

from recommender import traced
from recommender.counting import is_labelled
from recommender.facts import Facts, Machine
from recommender.footprint import Step, parts_of, score_bytes, states
from recommender.names import memory_in_name
from recommender.recommendation import Memory
from recommender.shape import NF4_BYTES, Shape
from recommender.sharing import DIVIDED, MARGINS, on_each

RUNTIME_BYTES = 600_000_000
"""Libraries, kernels and buffers that any run holds on a GPU (E22)."""
RUNTIME_BYTES_APPLE = 900_000_000
"""On Apple's devices, whose memory holds Python's libraries too; nobody has measured it (K)."""
LIBRARIES_ON_CPU = 460_000_000
"""On a CPU the same memory holds Python's libraries: torch 2.13, transformers, peft and bitsandbytes, once imported, where nobody
has measured it on the machine that would train (`Counted.libraries`)."""
BITSANDBYTES_ON_CPU = 45_000_000
"""Of it, what only those runs import whose weights are in 4 bit or moments in 8: bitsandbytes and, for it, torch's compiler."""
OF_A_RUN = (140e6, 80e6, 190e6)
"""What a run adds: the point, the least and the most. Pages of the libraries' files that are read only then (some 50 MB), what is
imported when it is first used, threads, and the kernels that oneDNN makes for each shape (20 to 30 MB in bf16)."""
OF_A_WORD = 300
"""Of the tokenizer: 11 MB of 30,522 words, 13 of 49,152."""
SLACK_ON_CPU = (0.04, 0.0, 0.12)
SLACK_HELD_APART = (0.1, 0.0, 0.18)
"""Of a step's tensors and of what a replay of glibc's heap keeps beside them: what is added by small objects that lie in between
and hold the pieces apart. The point, the least and the most. SmolLM2 with LoRA took 0% more (Alpaca), five runs of MiniLM in full
-2 to 3% (14 to 987 steps). The second is for adapters where attention keeps its scores, in blocks of up to 50 MB that seldom find
a piece, and for 4-bit weights, which are unpacked for each product: one micro-batch, taken twice, took 1 to 9% more, a run of
MiniLM with LoRA 9 (14 steps), a step after 15 on rows of other lengths 11."""
PROBE_ON_CPU = 130_000_000
"""scikit-learn, for the linear probe that comes after the training."""
BESIDE = ("runtime", "reserve")
"""Parts that are no tensors."""
MARGIN = 1.1
USABLE_SHARE = 0.92
UNKNOWN_MEMORY = 8 * 1024**3
"""Assumed free where nothing is known of the machine."""
FREE_SHARE = 0.7
"""Assumed free of a memory whose size alone is known."""
UNCERTAINTY = (0.8, 1.25)
"""The formula's anchors lie within -10% and +13% (evidence 2.2); doubled for models that are not anchors."""
USABLE_TRACED = 0.97
"""Of what is free, where the upper end of a traced step's interval is held against it."""
RUNTIME_RANGE = (0.5, 1.5)
"""Of the runtime, which nobody has measured here: 0.3 to 0.9 GB on a card."""


class Placed(NamedTuple):
    """A step on the devices that suit it best: bytes on each of them."""

    peak: int
    available: int
    """Free now on the fullest of the devices used."""
    devices: int
    sharded: bool
    parts: dict[str, int]
    span: tuple[int, int] | None = None
    """Least and most bytes, where a trace has counted this step, or one of which its memory follows."""
    phases: dict[str, dict[str, int]] | None = None
    """Then also where the memory is in each phase."""
    most: int = 0
    """Then also the most that has to find room: what a card's allocator keeps beside it, it gives back before it fails."""

    @property
    def fits(self) -> bool:
        """Whether the predicted peak leaves the stated head-room; of a traced step, whether the most that it may take does."""
        if self.span is not None:
            return self.most <= USABLE_TRACED * self.available
        return self.peak <= USABLE_SHARE * self.available

    @property
    def room(self) -> int:
        """Bytes that would have to be free."""
        if self.span is not None:
            return int(self.most / USABLE_TRACED) + 1
        return int(self.peak / USABLE_SHARE) + 1

    @property
    def near(self) -> bool:
        """Whether nobody has counted it, and it is so near what is free that a trace could say otherwise."""
        return self.span is None and abs(math.log(self.room / max(self.available, 1))) <= traced.NEAR

    @property
    def doubtful(self) -> bool:
        """Whether a traced step may fit and may not: only a trial of its longest rows tells."""
        return self.span is not None and not self.fits and self.span[0] <= self.available


def available_memory(machine: Machine) -> tuple[int, bool]:
    """Bytes a run may use now on the one device it would see first, and whether that is known."""
    free, known = _free(machine)[0]
    return free, known


def usable_count(machine: Machine) -> int:
    """How many accelerators one run can use here."""
    present = len(machine.devices) if machine.backend != "cpu" else 0
    return present if machine.usable_devices is None else min(machine.usable_devices, present)


def _free(machine: Machine) -> list[tuple[int, bool]]:
    """Free bytes of each usable device, the freest first."""
    if machine.device is None:
        return [_known(machine.ram_available, machine.ram_total)]
    free = [_known(d.memory_free, d.memory_total or memory_in_name(d)) for d in machine.devices]
    if machine.backend == "mps" and machine.ram_available is not None:  # one memory for both
        free = [(min(f, machine.ram_available), known) for f, known in free]
    return sorted(free, key=lambda f: f[0], reverse=True)[: max(usable_count(machine), 1)]


def _known(free: int | None, total: int | None) -> tuple[int, bool]:
    if free is not None:
        return free, True
    return (int(FREE_SHARE * total) if total is not None else UNKNOWN_MEMORY), False


def groups_of(machine: Machine) -> list[tuple[int, int]]:
    """Groups of devices worth trying, the largest first: how many, and what is free on the fullest of them."""
    free = [f for f, _ in _free(machine)]
    return [(n, free[n - 1]) for n in range(len(free), 0, -1) if n == len(free) or free[n] < free[n - 1]]


def _alone(facts: Facts, shape: Shape, step: Step) -> tuple[int, dict[str, int], traced.Counted | None]:
    """Peak and parts on a single device, and what was counted of this step, with the runtime; by what runs have shown."""
    factor = traced.from_runs(facts, step.method)
    found = traced.at_once(facts, step)
    if found is None:
        peak, parts = _from_dimensions(facts, shape, step)
        return int(factor * peak), parts, None
    context = (facts.measured.memory_profile or {}).get("context")
    if isinstance(context, int | float) and 0 < context < 1e11:  # measured on this device
        runtime = least = most = int(context)
    else:
        runtime, least, most = beside(facts, shape, found.peak, found.libraries, **_of_heap(step))
        if facts.machine.device is None:
            share = _slack(facts, shape, **_of_heap(step))[0]
            later = max(_after(facts, found) - int((1 + share) * found.peak), 0)
            runtime, most = runtime + later, most + later
    peak, low, high, needed = (
        int(factor * size) for size in (found.peak + runtime, found.low + least, found.high + most, found.most + most)
    )
    parts = found.parts | {"runtime": runtime}
    return peak, parts, found._replace(peak=peak, low=low, high=high, most=needed, parts=parts)


def compared(facts: Facts, shape: Shape, *steps: Step) -> list[int]:
    """Peaks of steps on a single device: all as traces have counted them, or all by the formula, never one by this and one by
    that."""
    if all(traced.at_once(facts, step) for step in steps):
        return [_alone(facts, shape, step)[0] for step in steps]
    return [_by_formula(facts, shape, step)[0] for step in steps]


def _of_heap(step: Step) -> dict[str, bool]:
    """What `beside` asks of a step."""
    return {"adapters": step.method != "full", "in_bits": step.method == "qlora" or step.optimizer.startswith("adamw_8bit")}


def _after(facts: Facts, found: traced.Counted) -> int:
    """Bytes beside the process's own when a run's result is loaded on a CPU, while the file it is read from is mapped as a whole;
    or when a classifier's untouched model is read for the linear probe."""
    held = sum(found.phases.get("load", {}).values())
    reading = sum(found.phases.get("evaluation", {}).values()) - found.phases.get("evaluation", {}).get("optimizer", 0)
    loading = held + (facts.model.weights_bytes or held)
    probed = is_labelled(facts.data) and facts.data.task != "token_classification"
    return max(loading, reading + PROBE_ON_CPU if probed else 0)


def _slack(facts: Facts, shape: Shape, *, adapters: bool, in_bits: bool) -> tuple[float, float, float]:
    return SLACK_HELD_APART if in_bits or (adapters and score_bytes(facts, shape, "fp32")) else SLACK_ON_CPU


def beside(
    facts: Facts, shape: Shape, tensors: int, libraries: int | None = None, *, adapters: bool = False, in_bits: bool = False
) -> tuple[int, int, int]:
    """Bytes that a process holds beside so many of tensors: the point, the least and the most. `libraries` are what has been
    measured of those that it imports; whether `adapters` are trained, and weights or moments are bitsandbytes' (`in_bits`)."""
    if facts.machine.device is not None:
        runtime = RUNTIME_BYTES_APPLE if facts.machine.backend == "mps" else RUNTIME_BYTES
        low, high = RUNTIME_RANGE
        return runtime, int(low * runtime), int(high * runtime)
    imported = (libraries or LIBRARIES_ON_CPU) - (0 if in_bits else BITSANDBYTES_ON_CPU)
    imported += OF_A_WORD * (facts.model.vocabulary_size or 0)
    slack = _slack(facts, shape, adapters=adapters, in_bits=in_bits)
    point, least, most = (imported + int(base + share * tensors) for base, share in zip(OF_A_RUN, slack, strict=True))
    return point, least, most


def _by_formula(facts: Facts, shape: Shape, step: Step) -> tuple[int, dict[str, int]]:
    parts = parts_of(facts, shape, step)
    whole = parts | {"runtime": beside(facts, shape, sum(parts.values()), **_of_heap(step))[0]}
    return int(MARGIN * sum(whole.values())), whole


def _from_dimensions(facts: Facts, shape: Shape, step: Step) -> tuple[int, dict[str, int]]:
    """By the formula, scaled by what a trace found of a step of the same kind."""
    peak, whole = _by_formula(facts, shape, step)
    found = traced.nearest(facts, step)
    if found is not None:
        there = found.peak + beside(facts, shape, found.peak, found.libraries, **_of_heap(found.step))[0]
        peak = int(peak * there / max(_by_formula(facts, shape, found.step)[0], 1))
    return peak, whole


def place(facts: Facts, shape: Shape, step: Step, groups: list[tuple[int, int]] | None = None) -> Placed:
    """The step where it fits best: a copy on as many devices as hold one, else divided over as many as needed."""
    peak, whole, found = _alone(facts, shape, step)
    groups = groups_of(facts.machine) if groups is None else groups
    if found is None:
        for count, free in groups:
            traced.note(step, peak / USABLE_SHARE, free)
            if count > 1:
                traced.note(step, peak / USABLE_SHARE / count, free)
    span, phases = (None, None) if found is None else ((found.low, found.high), found.phases)
    needed = 0 if found is None else found.most
    alone = Placed(peak, 0, 1, False, whole, span, phases, needed)
    buckets = states(facts, shape, step)["gradients"]
    copies = [_copied(alone, buckets if count > 1 else 0)._replace(devices=count, available=free) for count, free in groups]
    placed = next((p for p in copies if p.fits), None)
    if placed is not None:
        return placed
    several = [(count, free) for count, free in groups if count > 1]
    divided = [_divided(shape, step, whole, *group) if found is None else _shared(shape, alone, *group) for group in several]
    return next((p for p in divided if p.fits), None) or min([copies[-1], *divided], key=lambda p: p.peak / max(p.available, 1))


def _copied(alone: Placed, buckets: int) -> Placed:
    """A copy; beside others it also holds the buckets in which gradients travel, which are as large as they are (DDP)."""
    if not buckets:
        return alone
    span = None if alone.span is None else (alone.span[0] + buckets, alone.span[1] + buckets)
    parts = alone.parts | {"gradients": alone.parts.get("gradients", 0) + buckets}
    return alone._replace(peak=alone.peak + buckets, parts=parts, span=span, most=alone.most + buckets)


def _shared(shape: Shape, alone: Placed, count: int, free: int) -> Placed:
    """A counted step in `count` shares, phase by phase; what is beside its tensors each device has whole."""
    assert alone.span is not None
    phases = alone.phases or {"": {name: size for name, size in alone.parts.items() if name not in BESIDE}}
    held = phases.get("optimizer") or next(iter(phases.values()))
    shares = {
        phase: sum(parts.values()) + on_each(parts, held, count, "fsdp", shape.layers, updates=phase == "optimizer")
        for phase, parts in phases.items()
    }
    fullest = max(shares, key=lambda phase: shares[phase])
    beside = alone.parts.get("runtime", 0)
    factor = shares[fullest] / max(max(sum(parts.values()) for parts in phases.values()), 1)
    peak, low, high, most = (int(factor * (size - beside) + beside) for size in (alone.peak, *alone.span, alone.most))
    parts = {n: b // count if n in DIVIDED["fsdp"] else b for n, b in phases[fullest].items()}
    parts |= {"gathered": max(shares[fullest] - sum(parts.values()), 0), "reserve": max(peak - beside - shares[fullest], 0)}
    less, more = MARGINS
    span = int(less * low), int(more * high)
    return Placed(peak, free, count, True, parts | {"runtime": beside}, span, None, int(more * most))


def _divided(shape: Shape, step: Step, whole: dict[str, int], count: int, free: int) -> Placed:
    """States in `count` shares; each device still gathers two layers, and the embeddings, whole."""
    parts = {name: b // count if name in ("weights", "gradients", "optimizer") else b for name, b in whole.items()}
    width = NF4_BYTES if step.method == "qlora" else 2
    gathered = width * 2 * shape.linear_parameters / max(shape.layers, 1) + 2 * shape.embedding_parameters
    parts["gathered"] = int(gathered)
    return Placed(int(MARGIN * sum(parts.values())), free, count, True, parts)


def as_memory(facts: Facts, shape: Shape, placed: Placed) -> Memory:
    """The record that goes into the answer."""
    low, high = placed.span or (int(placed.peak * factor) for factor in UNCERTAINTY)
    known = all(k for _, k in _free(facts.machine)) and not shape.assumed
    return Memory(
        predicted=placed.peak,
        low=low,
        high=high,
        available=placed.available,
        origin="estimated" if known else "assumed",
        parts=placed.parts,
        phases=placed.phases or {},
        counted=placed.span is not None,
        near=placed.near,
    )
