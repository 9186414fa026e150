"""The loop that a step is part of, traced for the card that is meant, at any depth of the model."""

import re
from typing import Any

from engine.inspection.processor import may_be_here
from engine.prediction.cards import cache_of, known_of
from engine.prediction.deeper import SHALLOW, Unlike, extended
from engine.prediction.stream import Segment
from engine.worker.tracing import models, work
from engine.worker.tracing.kernels import Card, repacks_here
from engine.worker.tracing.live import Marks
from engine.worker.tracing.plain import PlainLoop
from engine.worker.tracing.trace import Loop, Traced, trace
from recommender.facts import Facts
from recommender.step import TrainingStep, version_of


def learned_share(facts: Facts) -> float:
    """Of the tokens, how many carry loss; all where it is not known."""
    known, learned = facts.data.tokens_total, facts.data.trained_tokens
    return min(max(learned / known, 0.0), 1.0) if known and learned else 1.0


def read_share(facts: Facts) -> float:
    """Of the longer of what an encoder-decoder reads and writes, how much it reads; all where it is not known."""
    known, read = facts.data.tokens_total, facts.data.read_tokens
    return min(max(read / known, 0.0), 1.0) if known and read else 1.0


def card_of(facts: Facts) -> tuple[Card, bool]:
    """The device whose kernels are meant, and whether its name was known."""
    machine = facts.machine
    if machine.backend == "cpu" and machine.device is None:
        quantised = facts.step is not None and facts.step.method == "qlora"
        repacks = quantised and (repacks_here() if machine.cpu_bf16 is None else machine.cpu_bf16)
        plain = facts.step is not None and not own_step(facts.step)  # what ours hold beside was fitted without
        return Card("cpu", repacks=repacks, here=plain and may_be_here(machine)), True
    known, named = known_of(machine)
    told = facts.step.torch if facts.step is not None else None
    older = told is not None and version_of(told) < (2, 12)
    return Card("cuda", known.capability, known.processors, older=older, cache=cache_of(known)), named


def loop_of(
    content: dict[str, Any],
    step: TrainingStep,
    card: Card,
    live: Marks,
    *,
    layers: int | None = None,
    learned: float = 1.0,
    device: str = "meta",
) -> Loop:
    """The loop that the step is part of; `learned` is the share of the tokens that carry loss."""
    if own_step(step):
        from engine.worker.tracing.own import OwnLoop, plan_of

        shorter = max(step.length - 1, 1) if step.padded else step.length
        lengths = [step.length, *[shorter] * (step.micro_batch_rows - 1)]
        return OwnLoop(
            content,
            plan_of(step),
            live,
            lengths=lengths,
            layers=layers,
            workspace=card.workspace,
            pieces=step.pieces,
            learned=learned,
            device=device,
        )
    return PlainLoop(content, step, live, card, layers=layers, learned=learned, device=device)


def own_step(step: TrainingStep) -> bool:
    """Whether the engine takes such a step; others with a chunked loss are an ordinary loop with that loss."""
    half = step.base_dtype in ("bfloat16", "float16")
    if step.adapters:  # the frozen base is held in what is computed in
        held = step.autocast in (None, step.base_dtype)
    else:
        held = not half or (step.base_dtype == "bfloat16" and step.autocast is None)
    states = {"uint8", "int8"} if "8bit" in step.optimizer else {"bfloat16" if half and not step.adapters else "float32"}
    return (
        step.loss == "chunked"
        and step.optimizer_implementation != "foreach"
        and step.optimizer in ("adamw", "adamw_8bit", "paged_adamw_8bit")
        and step.optimizer_state_dtype in (None, *states)
        and step.adapter_dtype in (None, "float32")
        and step.attention not in ("math", "eager")
        and not step.outputs_held
        and held
        and not step.trained
        and step.kernels != "liger"
        and (step.method != "qlora" or (step.quantization, step.double_quantization, step.kbit_prepared) == ("nf4", True, False))
    )


def traced(content: dict[str, Any], step: TrainingStep, card: Card, layers: int | None, learned: float = 1.0) -> Traced:
    """The step at that depth; at its own where `layers` is `None`."""
    return trace(
        lambda live: loop_of(content, step, card, live, layers=layers, learned=learned),
        card,
        attention=(pinned := _pinned(step, card)),
        padded=bool(step.padded) and pinned != "flash 2",
        windows=layers is None or len(set(models.kinds_of(models.config_of(content)))) <= 1,  # else two depths tell of one kind
    )


def _pinned(step: TrainingStep, card: Card) -> str | None:
    """The kernel of attention that the step fixes; the engine leaves the choice to torch.

    Flash attention over a mask, or where the stream is fp32, is not torch's own: FlashAttention 2 leaves padding out and is given
    16 bit (transformers, integrations/flash_attention.py).
    """
    if own_step(step):
        return None
    narrow = step.autocast not in (None, "float32") or step.base_dtype != "float32"
    return "flash 2" if step.attention == "flash" and card.has_flash and narrow else step.attention


def at_depth(
    content: dict[str, Any], step: TrainingStep, card: Card, speed: work.Speed, learned: float = 1.0
) -> tuple[list[Segment], work.Work]:
    """The step's stream at its whole depth, and what it is for the device and its host."""
    config = models.config_of(content)
    depth = models.depth_of(config)
    given: dict[str, Any] = {"repeated": step.gradient_accumulation_steps / step.pieces}
    given["waits"] = card.kind == "cuda" and step.waits
    alike = _windows_alike(config, step, card)
    if depth > SHALLOW[1] + 1 and models.extendable(config, step.length, windows_alike=alike) and not _by_number(step):
        less, more = (traced(content, step, card, layers, learned) for layers in SHALLOW)
        try:
            segments = extended(less.segments, more.segments, depth)
        except Unlike:
            pass
        else:
            pairs = zip(*(work.work_of(t.recorded, speed, **given) for t in (less, more)), strict=True)
            return segments, work.Work(*(work.at_depth(a, b, SHALLOW, depth) for a, b in pairs))
    whole = traced(content, step, card, None, learned)
    return whole.segments, work.work_of(whole.recorded, speed, **given)


def _windows_alike(config: Any, step: TrainingStep, card: Card) -> bool:
    """Whether layers keep as much that look through a window: where each is given a mask, or FlashAttention 2, which needs none.
    Else SDPA takes another kernel for a mask."""
    return not own_step(step) and (
        bool(step.padded) or step.attention == "eager" or _pinned(step, card) == "flash 2" or models.only_eager(config)
    )


def _by_number(step: TrainingStep) -> bool:
    """Whether some layers are treated unlike the others: the step names them by their numbers."""
    targets = step.target_modules
    named = [*(step.trained or ()), *([targets] if isinstance(targets, str) else targets or ())]
    return any(re.search(r"(?<![A-Za-z_])\d", name) for name in named)
