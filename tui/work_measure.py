"""What is measured for a plan that can be read already: blocking calls for threads, every import inside."""

from typing import TYPE_CHECKING

from recommender.kinds import METHODS
from tui.work_plan import Advice, decided

if TYPE_CHECKING:
    from engine.inspection.child import Cancel
    from recommender.facts import Facts

ROUNDS = 3
"""What was counted may change what is advised, whose steps are counted in turn: at most so many times."""


def wants_trial(advice: Advice) -> bool:
    """Whether it is not known yet if this processor is faster in bf16."""
    from engine.prediction.trial import is_wanted

    return is_wanted(advice.facts)


def tried(advice: Advice, cancel: "Cancel") -> "Facts":
    """The facts of that advice, with what a trial of bf16 finds; seconds."""
    from engine.prediction.trial import with_trial

    return with_trial(advice.facts, cancel=cancel)


def is_uncounted(advice: Advice) -> bool:
    """Whether a trace could say more of the memory on the screen."""
    from engine.prediction.candidates import is_wanted

    return is_wanted(advice.facts, [advice.candidate(m) for m in METHODS])


def counted(advice: Advice, cancel: "Cancel") -> "Facts":
    """The facts of that advice, with the memory of the candidates' steps as traces count it; seconds."""
    from engine.prediction.candidates import steps_of, with_traces

    shown = steps_of(advice.facts, [advice.candidate(m) for m in METHODS])
    return with_traces(advice.facts, shown, fits=True, cancel=cancel)


def counted_beside(advice: Advice, cancel: "Cancel") -> "Facts | None":
    """The same with the steps that decide beside those on the screen: what else fits, what would change the advice; `None` where
    all of them are known. Seconds."""
    from engine.prediction.candidates import deciding, with_traces

    steps = deciding(advice.facts)
    return with_traces(advice.facts, (), steps, fits=True, cancel=cancel) if steps else None


def with_profile(advice: Advice, facts: "Facts") -> Advice:
    """The recommendation with the memory that those facts have counted, and all else as it is now."""
    counted = advice.facts.changed("measured", memory_profile=facts.measured.memory_profile)
    return decided(counted, advice.model, advice.data, advice.draft)


def measured_again(advice: Advice, facts: "Facts") -> Advice:
    """The recommendation with what those facts say was measured."""
    return decided(advice.facts.model_copy(update={"measured": facts.measured}), advice.model, advice.data, advice.draft)
