"""What can be wrong with a training, as it is told; and its learning rate, judged before the first step. Pure."""

import math
from dataclasses import dataclass, field
from typing import Any

from recommender.plan import Plan

RATES = {"full": (1e-7, 1e-3), "lora": (1e-6, 1e-2), "qlora": (1e-6, 1e-2)}
"""Learning rates outside which no fine-tune with AdamW is known to have gone well (E4, E14)."""
HOPELESS_RATE = 0.1
"""AdamW moves each weight by about the rate at every step, whatever the gradient; weights are of the order of 0.02 to 0.1."""


DAMAGED_FOR_A_WORD = "Leave such rows out, or download the model again: its weights for one of their words may be damaged."
"""The cure where some rows have a loss that is no number and others do not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that goes wrong."""

    code: str
    text: str
    """What was seen and what it most likely means."""
    cure: str = ""
    """What to do about it."""
    setting: str = ""
    """What to set for a new run, as `--set` takes it."""
    stop: bool = False
    """Whether going on would only do damage."""
    facts: dict[str, Any] = field(default_factory=dict)


def judge_rate(plan: Plan, suggested: float | None = None) -> Finding | None:
    """Whether the learning rate is outside the sane range; one far above it would ruin any model at the first step."""
    low, high = RATES[plan.method]
    rate, fastest = plan.learning_rate, plan.learning_rate * (plan.lora_plus_ratio or 1)
    usual = f"{suggested:.1g}" if suggested else f"{math.sqrt(low * high):.0e}"
    facts = {"learning_rate": rate, "low": low, "high": high, "suggested": suggested}
    setting = f"learning_rate={usual}"
    if rate >= HOPELESS_RATE:
        text = f"learning_rate {rate:g} changes every weight by about that much at each step, and weights are about 0.05: nothing"
        return Finding("learning_rate_hopeless", f"{text} of the model would be left.", setting=setting, stop=True, facts=facts)
    most = high if plan.lora_plus_ratio is None else 5 * high
    if fastest > most:
        what = f"learning_rate {rate:g}" + (f" times lora_plus_ratio {plan.lora_plus_ratio:g}" if plan.lora_plus_ratio else "")
        text = f"{what} is above {most:g}, which no fine-tune of this kind is known to have survived for long."
        facts |= {"learning_rate": fastest, "high": most}
        return Finding("learning_rate_high", text, setting=setting, facts=facts)
    if rate < low:
        text = f"learning_rate {rate:g} is so low that next to nothing is learned."
        return Finding("learning_rate_low", text, setting=setting, facts=facts)
    return None
