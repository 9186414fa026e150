"""The whole chain behind a recommendation, step by step: every rule that fired, its points, its source."""

from collections.abc import Iterator
from typing import Any, Literal

from recommender.base import Fact
from recommender.facts import Facts
from recommender.figures import size
from recommender.gates import PHYSICS
from recommender.language import marked, said
from recommender.reasons import sentence
from recommender.recommendation import METHOD_NAMES, METHODS, Candidate, Method, Reason, Recommendation
from recommender.savings import largest

Stage = Literal["gates", "candidates", "constraints", "dominance", "points", "settings", "verdict"]
STAGES: tuple[Stage, ...] = ("gates", "candidates", "constraints", "dominance", "points", "settings", "verdict")
"""In the order in which they decide."""


SMALL = 1_000_000
"""Bytes below which a part of the memory is not told."""
PHASES_AND_PARTS = (
    marked("forward"), marked("loss"), marked("backward"), marked("evaluation"), marked("temporaries"), marked("weights"),
    marked("optimizer"), marked("gradients"), marked("activations"), marked("logits"), marked("runtime"),
)  # fmt: skip
"""As traces call them; said in the reader's language."""


class Step(Fact):
    """One step of the chain."""

    stage: Stage
    code: str
    text: str
    points: dict[Method, float] | None = None
    """What each method gained or lost by it; `None` where a step gives no points."""
    source: str = ""


def explain(facts: Facts, recommendation: Recommendation) -> tuple[Step, ...]:
    """Every step in the order of the decision. Pure, and made of what the recommendation holds: nothing is decided again."""
    steps = [Step(stage=_stage(r), code=r.code, text=r.text, points=_points(r), source=r.source) for r in recommendation.reasons]
    if not any(s.stage == "gates" for s in steps):
        steps.append(Step(stage="gates", code="gates_open", text=sentence("gates_open")))
    steps += [_considered(c) for c in recommendation.candidates]
    steps += [step for c in recommendation.candidates for step in _memory(facts, c)]
    if not nothing_to_run(recommendation):
        steps += [Step(stage="settings", code=r.code, text=r.text, source=r.source) for r in recommendation.settings_reasons]
    totals = {c.method: c.points for c in recommendation.candidates}
    steps.append(
        Step(stage="points", code="points_total", text=sentence("points_total", {"points": _spoken(totals)}), points=totals)
    )
    steps.append(_verdict(recommendation))
    steps += [Step(stage="verdict", code="would_change", text=text) for text in recommendation.would_change]
    return tuple(sorted(steps, key=lambda s: STAGES.index(s.stage)))


def nothing_to_run(recommendation: Recommendation) -> bool:
    """Whether no insistence helps: there is nothing to learn, or the model cannot do it."""
    return any(r.code in PHYSICS for r in recommendation.reasons)


def _stage(reason: Reason) -> Stage:
    family = reason.code.split("_")[0]
    if family[:1] in "GDW" and family[1:].isdigit():
        return {"G": "gates", "D": "dominance", "W": "points"}[family[0]]  # type: ignore[return-value]
    return "constraints"


def _points(reason: Reason) -> dict[Method, float] | None:
    given: Any = reason.facts.get("points")
    return {m: float(given.get(m, 0)) for m in METHODS} if isinstance(given, dict) else None


def _considered(candidate: Candidate) -> Step:
    s = candidate.settings
    known = {
        "method": METHOD_NAMES[candidate.method],
        "trained": candidate.trained_parameters,
        "token_budget": s.token_budget,
        "precision": s.precision,
        "optimizer": {"adamw": "AdamW", "adamw_8bit": "8-bit AdamW", "adamw_8bit_paged": "paged 8-bit AdamW"}[s.optimizer],
        "checkpointing": "with" if s.gradient_checkpointing else "without",
        "hours": candidate.hours.predicted,
    }
    return Step(stage="candidates", code="considered", text=sentence("considered", known))


def _memory(facts: Facts, candidate: Candidate) -> Iterator[Step]:
    """Where the memory goes, phase by phase, and what would save most of it; nothing where it was not counted."""
    name, memory = METHOD_NAMES[candidate.method], candidate.memory
    if not memory.counted:
        return
    most = 2 if memory.phases else 4
    phases = memory.phases or {"": memory.parts}
    told = (f"{said(phase)} {size(sum(held.values()))} ({_parts(held, most)})".strip() for phase, held in phases.items())
    where = "; ".join(told)
    yield Step(stage="candidates", code="memory_where", text=sentence("memory_where", {"method": name, "where": where}))
    saving = largest(facts, candidate)
    if saving is not None:
        change, saved = saving
        known = {"method": name, "saved": saved}
        yield Step(stage="candidates", code="memory_saving", text=sentence(f"saving_{change}", known))


def _parts(parts: dict[str, int], most: int) -> str:
    """The largest of them."""
    largest_first = sorted(parts.items(), key=lambda p: -p[1])
    return ", ".join(f"{said(name)} {size(held)}" for name, held in largest_first[:most] if held > SMALL)


def _spoken(totals: dict[Method, float]) -> str:
    return ", ".join(f"{said(METHOD_NAMES[m])} {totals[m]:g}" for m in METHODS)


def _verdict(recommendation: Recommendation) -> Step:
    best = METHOD_NAMES[recommendation.best.method]
    code = "verdict"
    if recommendation.verdict == "not_yet":
        code = "verdict_nothing_to_run" if nothing_to_run(recommendation) else "verdict_not_yet"
        if code == "verdict_not_yet" and recommendation.runner_up is None:
            code = "verdict_not_yet_only"
    elif recommendation.verdict == "does_not_fit":
        late = any(c.fits and c.removed_by == "over_time_budget" for c in recommendation.candidates)
        code = "verdict_no_time" if late else "verdict_does_not_fit"
    known: dict[str, Any] = {
        "best": best,
        "verdict": METHOD_NAMES.get(recommendation.verdict, recommendation.verdict.replace("_", " ")),
        "confidence": recommendation.confidence,
        "runner_up": METHOD_NAMES[recommendation.runner_up] if recommendation.runner_up else "none",
    }
    return Step(stage="verdict", code=f"verdict_{recommendation.verdict}", text=sentence(code, known))
