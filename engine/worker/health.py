"""Whether a training goes well: a fold over the records of its steps and evaluations that names what goes wrong.

Pure: numbers in, findings out. Thresholds are meant to be crossed by trainings that are broken and by no others; they stand
beside the reason, and `tests/engine/worker/test_health.py` holds them against real curves.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

from engine.findings import DAMAGED_FOR_A_WORD, RATES, Finding, judge_rate
from recommender.facts import CLASSIFYING
from recommender.plan import Plan

WINDOW_ROWS = 64
"""Rows whose losses are judged together: the loss of a few says more of them than of the model."""
LEAST_WINDOW = 5
"""Steps, however large the batch."""
LONG = 5
"""Windows over which it is judged what a model has learned: the lowest of many short ones is low by chance."""
FIRST_ROWS = 8
"""Rows before which nothing is learned yet."""
HIGH, RUINED = (1.75, 0.4), (3.0, 1.0)
"""Times the loss before training, and so much more: above the first it goes the wrong way, above the second it is lost."""
LEARNED, FORGOT, MUCH = 0.6, 0.9, 0.2
"""Of the first loss: a model that was below the one, by so much, and is above the other again has lost what it knew."""
ZERO = 1e-7
"""Below it a cross-entropy in fp32 is 0 but for rounding."""
BY_HEART = 1e-3
"""A loss that comes to zero from here was learned; one that jumps to zero has nothing to learn from."""
SILENT_STEPS = 5
"""Steps in a row without loss or gradient, after which a training is ended: they teach nothing."""
SKIPPED_STEPS = 25
"""fp16 skips steps whose gradient overflows until its scale fits, about a dozen at the start."""
SLOW_STEPS, SLOW_STEPS_TOO_FAST = 150, 30
"""Steps past the warm-up after which a loss that never fell is worth a word; the second where the rate is outside the sane
range, which explains it: then it is the end."""
PARTED, STILL_FALLING = 1.1, 0.8
"""Validation loss over its lowest, training loss over what it was then: beyond both they have parted."""
WORSE = 1.1, 0.1
"""Times the untouched model's loss, and so much more, above which a checkpoint is nothing to keep."""

NOTHING = {
    True: (
        "Most likely the model is already certain about these rows: its own head was trained on such rows.",
        "Look at its scores before training; use it as it is, or add rows that it does not know.",
    ),
    False: (
        "Most likely all its labels are masked, or every answer is cut off.",
        "Look at what is learned with `loracle inspect data --tokens 3`; raise max_length, or give the right columns.",
    ),
}
"""Why batches teach nothing, and what to do; first of tasks that judge texts."""


class Step(NamedTuple):
    """What one optimizer step showed."""

    step: int
    loss: float
    grad_norm: float | None
    """Before clipping; not finite where fp16 overflowed and the step was skipped; `None` where it was not measured."""


class Health:
    """What the steps so far say. A finding is told once, and once more where it ends the training."""

    def __init__(self, plan: Plan, suggested_rate: float | None = None) -> None:
        self._plan = plan
        self._suggested = suggested_rate
        self.given: float | None = None
        """The untouched model's loss on held-out rows, where it is known: steadier than that of a first batch."""
        self._window = max(LEAST_WINDOW, -(-WINDOW_ROWS // plan.effective_batch))
        self._recent: deque[float] = deque(maxlen=self._window)
        self._long: deque[float] = deque(maxlen=LONG * self._window)
        self._begun: list[float] = []
        self._lowest = math.inf
        self._last = math.inf  # loss of the last step that had any
        self._silent = self._zeros = self._skipped = self._high = self._fallen = 0
        self._told: set[str] = set()
        self._since: list[float] = []
        self._evaluations: list[tuple[int, float, float]] = []

    # Steps

    def see(self, step: Step) -> list[Finding]:
        """Take in a step; what it shows, the gravest first."""
        found = [f for f in (self._silence(step), self._overflow(step)) if f is not None]
        self._since.append(step.loss)
        self._recent.append(step.loss)
        self._long.append(step.loss)
        if len(self._begun) < self._window:
            self._begun.append(step.loss)
        if len(self._recent) == self._window:
            now, lately = median(self._recent), median(self._long)
            found += [f for f in (self._diverging(step, now), self._forgot(step, now, lately), self._slow(step, lately)) if f]
            if len(self._long) == LONG * self._window:
                self._lowest = min(self._lowest, lately)
        found = [f for f in found if f.stop or f.code not in self._told]
        self._told |= {f.code for f in found}
        return sorted(found, key=lambda f: not f.stop)

    @property
    def first(self) -> float:
        """The loss before anything was learned."""
        # With dropout a model seems worse than when it is scored, but the first steps may be ruined already.
        begun = median(self._begun)
        if self.given is not None:
            return max(self.given, min(begun, 1.5 * self.given))
        return min(begun, 3 * median(self._begun[: -(-FIRST_ROWS // self._plan.effective_batch)]))

    def _silence(self, step: Step) -> Finding | None:
        silent = step.loss == 0 and step.grad_norm == 0
        self._silent = self._silent + 1 if silent else 0
        self._zeros = self._zeros + 1 if abs(step.loss) < ZERO else 0
        self._last = self._last if self._zeros else abs(step.loss)
        by_heart = self._last < BY_HEART
        judges = self._plan.task in CLASSIFYING
        facts = {"step": step.step, "steps": self._zeros}
        if (self._silent == 1 or self._silent >= SILENT_STEPS) and not by_heart:
            return Finding(
                "nothing_learned",
                f"The batch of step {step.step} teaches nothing: its loss and its gradient are zero"
                + (f", for {self._silent} steps now. " if self._silent > 1 else ". ")
                + NOTHING[judges][0],
                NOTHING[judges][1],
                stop=self._silent >= SILENT_STEPS,
                facts=facts,
            )
        if self._zeros == 2 * SILENT_STEPS:
            at_once = self._zeros >= step.step and not by_heart
            return Finding(
                "zero_loss" if at_once else "learned_by_heart",
                f"The loss has been zero for {self._zeros} steps. "
                + (
                    "It was zero from the start: the text gives the label away, or all rows have the same label."
                    if at_once
                    else "The model has memorised the training rows; more steps teach it nothing."
                ),
                "Look for a label inside the text with `loracle inspect data`." if at_once else "Use fewer epochs.",
                stop=at_once,
                facts=facts,
            )
        return None

    def _overflow(self, step: Step) -> Finding | None:
        skipped = step.grad_norm is not None and not math.isfinite(step.grad_norm)
        self._skipped = self._skipped + 1 if skipped else 0
        if self._skipped < SKIPPED_STEPS:
            return None
        return Finding(
            "gradient_overflow",
            f"fp16 has skipped {self._skipped} steps in a row because the gradient overflows: the model does not train in fp16.",
            "bf16-mixed is as fast, if the GPU has it.",
            "precision=fp32",
            stop=True,
            facts={"step": step.step, "skipped": self._skipped},
        )

    def _diverging(self, step: Step, now: float) -> Finding | None:
        """Whether the loss goes up instead of down."""
        first = self.first
        self._high = self._high + 1 if now > HIGH[0] * first + HIGH[1] else 0
        if not self._high:
            return None
        before = first if self.given is None else self.given  # as the scores before the training tell it
        return Finding(
            "diverging",
            f"The loss diverges: {now:.3g} over the last {self._window} steps, and {before:.3g} before any training."
            f" {self._rate_words()}",
            setting=self._slower(),
            stop=now > RUINED[0] * first + RUINED[1] or self._high > 2 * self._window,
            facts={"step": step.step, "loss": now, "first": before},
        )

    def _forgot(self, step: Step, now: float, lately: float) -> Finding | None:
        """Whether what was learned is lost again."""
        first = self.first
        learned = self._lowest < min(LEARNED * first, first - MUCH)
        self._fallen = self._fallen + 1 if learned and min(now, lately) > FORGOT * first else 0
        if not self._fallen:
            return None
        return Finding(
            "forgot",
            f"The loss was down to {self._lowest:.3g} and is back at {now:.3g}, where it began ({first:.3g})."
            f" {self._rate_words()}",
            setting=self._slower(),
            stop=self._fallen > 3 * self._window,
            facts={"step": step.step, "loss": now, "first": first, "lowest": self._lowest},
        )

    def _slow(self, step: Step, lately: float) -> Finding | None:
        rate = judge_rate(self._plan)
        too_fast = rate is not None and rate.code == "learning_rate_high"
        # A window that still holds the first steps says little of the last.
        patience = SLOW_STEPS_TOO_FAST if too_fast else max(SLOW_STEPS, LONG * self._window)
        first = self.given if too_fast and self.given is not None else self.first  # such a rate ruins the first steps already
        if step.step < patience + self._plan.warmup_steps or min(lately, self._lowest) < 0.97 * first:
            return None
        text = f"After {step.step} steps the loss has not fallen ({lately:.3g}; {first:.3g} at first)."
        facts = {"step": step.step, "loss": lately, "first": first}
        if not too_fast and self._plan.task == "continued_pretraining":
            return None  # much of it the model knows already, and each batch is other text: a loss that stays level says little
        if too_fast:
            return Finding("no_progress", f"{text} {self._rate_words()}", setting=self._slower(), stop=True, facts=facts)
        likely = (
            f"Either learning_rate ({self._plan.learning_rate:g}) is too high or far too low, or the answers do not follow"
            " from the texts."
        )
        return Finding("no_progress", f"{text} {likely}", "`loracle pilot` tries several rates on a slice.", facts=facts)

    # Evaluations

    def evaluated(self, step: int, loss: float) -> Finding | None:
        """Take in the validation loss after a step, of which no number is told once; whether training and validation parted."""
        training = sum(self._since) / len(self._since) if self._since else math.nan
        self._since.clear()
        if not math.isfinite(loss):
            if "validation_not_a_number" in self._told:
                return None
            self._told.add("validation_not_a_number")
            return Finding(
                "validation_not_a_number",
                f"The validation loss after step {step} is not a number: some rows make the model overflow, or its weights "
                "are ruined. Its checkpoint is never kept as the best.",
                facts={"step": step},
            )
        self._evaluations.append((step, training, loss))
        at = min(range(len(self._evaluations)), key=lambda i: self._evaluations[i][2])
        best_step, then, lowest = self._evaluations[at]
        later = self._evaluations[at + 1 :]
        parted = len(later) >= 2 and later[-1][2] > PARTED * lowest + 0.01 and all(e[2] > lowest * 1.05 for e in later[-2:])
        if not parted or not training < STILL_FALLING * then or "overfitting" in self._told:
            return None
        self._told.add("overfitting")
        return Finding(
            "overfitting",
            f"Since step {best_step} the validation loss has risen from {lowest:.3g} to {loss:.3g} while the training loss "
            f"fell from {then:.3g} to {training:.3g}: the model is memorising the training rows. The best checkpoint is kept.",
            "Fewer epochs are enough; more rows, or more varied ones, would help.",
            facts={"step": step, "best_step": best_step, "validation": [lowest, loss], "training": [then, training]},
        )

    def ruined(self, step: int) -> bool:
        """Whether the validation rows showed the model of that step to be far worse than it was given."""
        loss = next((loss for at, _, loss in self._evaluations if at == step), None)
        return loss is not None and self.given is not None and loss > WORSE[0] * self.given + WORSE[1]

    # Words

    def not_a_number(self, what: str, step: int, rows: Sequence[str] = ()) -> Finding:
        """A loss or a gradient that is no number; `rows` are the beginnings of those that alone have it."""
        wider, cure = "" if self._plan.precision == "fp32" else "precision=fp32", ""
        if rows:
            likely = f'The loss of {len(rows)} of its rows is not a number even alone; the first of these begins "{rows[0]}".'
            setting, cure = wider, DAMAGED_FOR_A_WORD
        elif step == 1:
            likely, setting = "Weights or data are damaged, or the precision is too narrow for this model.", wider
            if not wider:
                likely, cure = "Most likely its weights are damaged or far too large.", "Download the model again."
        else:
            likely, setting = self._rate_words(), self._slower()
        return Finding(
            "not_a_number", f"The {what} is no longer a number at step {step}. {likely}", cure, setting=setting, stop=True,
            facts={"step": step},
        )  # fmt: skip

    def _rate_words(self) -> str:
        return f"Most likely learning_rate is too high (it is {self._plan.learning_rate:g})."

    def _slower(self) -> str:
        return f"learning_rate={self.better_rate():.1g}"

    def better_rate(self) -> float:
        """A third of the plan's rate, or what was suggested where that is lower."""
        third = self._plan.learning_rate / 3
        highest = RATES[self._plan.method][1] / 3
        return min(third, highest, self._suggested or third)


def replay(health: Health, events: Iterable[dict[str, Any]], up_to: int) -> None:
    """Let a new worker know what an earlier one has seen and told up to the checkpoint it goes on from."""
    steps: dict[int, Step] = {}
    scored: dict[int, float] = {}
    for event in events:
        if event["kind"] == "step" and event["step"] <= up_to and event.get("loss") is not None:
            steps[event["step"]] = Step(event["step"], event["loss"], event.get("grad_norm"))
        elif event["kind"] == "evaluation" and event.get("split") == "validation" and event["step"] <= up_to:
            loss = event["metrics"].get("loss")
            scored[event["step"]] = math.nan if loss is None else loss  # JSON has no NaN
    for number in sorted(steps):
        health.see(steps[number])
        if number in scored:
            health.evaluated(number, scored[number])
