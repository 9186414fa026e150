"""What a step's open questions may change of what it takes: nobody says which way it is run."""

from engine.prediction.stream import PHASES
from engine.worker.tracing import models, spans
from engine.worker.tracing.chunked_nll import CHUNK
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.predicted import Predicted, predicted
from engine.worker.tracing.steps import own_step
from recommender.errors import LoracleError
from recommender.facts import Facts
from recommender.step import TILED, TrainingStep, version_of

Range = tuple[int, int]
"""Bytes less, and bytes more."""
Way = tuple[TrainingStep, Card]
"""The step with another choice, and the kernels that run it."""
FEW = 2
"""Layers of the model of which is asked whether a choice takes more or less."""
TELLS = 0.003
"""Of what is allocated, what makes a difference."""


def left_open(one: Predicted, step: TrainingStep, ways: list[Way], card: Card, facts: Facts) -> tuple[Range, Range]:
    """What the `ways` that a step may be run in change of what is allocated and reserved. All that take more are traced together,
    and so are all that save: two may take or save the same bytes. Which does what is seen in a model of a few layers; what cannot
    be seen there is traced by itself."""
    found = _Changes(one, facts)
    more, less, alone = list[Way](), list[Way](), list[Way]()
    depth = models.depth_of(models.config_of(facts.model.config or {}))
    usual = _few(step, card, facts) if len(ways) > 1 and depth > 2 * FEW else None
    for way in ways:
        rises, falls = _tells(one, usual, None if usual is None else _few(*way, facts), -(-depth // FEW))
        if rises and falls:
            if (change := found.count(*way)) is None:
                continue
            alone.append(way)
            rises, falls = change > 0, change <= 0
        if rises:
            more.append(way)
        elif falls:
            less.append(way)
    for among in (more, less):
        if len(among) > 1 or (among and among[0] not in alone):
            found.count_together(step, card, among)
    (low, high), (reserved_low, reserved_high) = found.allocated, found.reserved
    if (shorter := _in_one_chunk(step)) is not None:
        other = predicted(shorter, card, facts)
        high += max(other.allocated - one.allocated, 0)
        reserved_high += max(other.reserved - one.reserved, 0)
    elsewhere = [] if step.transformers else spans.of_versions(one.phases, step, facts.model.config or {})
    changes = [0, *(max(phases.values()) - max(one.phases.values()) for phases in elsewhere)]
    lowest, highest = min(changes), max(changes)
    low, reserved_low = min(low, lowest), min(reserved_low, lowest)
    if card.kind == "cuda" and not own_step(step):
        before, over = spans.before(card, step), max(one.allocated - sum(one.parts.values()), 0)
        low, reserved_low = low - before - (over if step.expandable_segments is None else 0), reserved_low - before
    return (low, high + highest), (reserved_low, reserved_high + highest)


class _Changes:
    """The least and the most that ways of a step change of it."""

    def __init__(self, one: Predicted, facts: Facts) -> None:
        self.allocated: Range = (0, 0)
        self.reserved: Range = (0, 0)
        self._one, self._facts = one, facts

    def count(self, step: TrainingStep, card: Card) -> int | None:
        """What is allocated more; `None` of what this model cannot do, which is no open question."""
        try:
            found = predicted(step, card, self._facts)
        except LoracleError:
            return None
        change, kept = found.allocated - self._one.allocated, found.reserved - self._one.reserved
        self.allocated = min(self.allocated[0], change), max(self.allocated[1], change)
        self.reserved = min(self.reserved[0], kept), max(self.reserved[1], kept)
        return change

    def count_together(self, step: TrainingStep, card: Card, ways: list[Way]) -> None:
        """The step with all that any of these ways does otherwise. Where two cannot go together, with all but one, and each."""
        if self.count(*_together(step, card, ways)) is None:
            for way in ways if len(ways) > 1 else ():
                self.count(*_together(step, card, [other for other in ways if other is not way]))
                self.count(*way)


def _together(step: TrainingStep, card: Card, ways: list[Way]) -> Way:
    changed = {name: value for other, _ in ways for name, value in other if value != getattr(step, name)}
    return step.model_copy(update=changed), next((kernels for _, kernels in ways if kernels != card), card)


def _few(step: TrainingStep, card: Card, facts: Facts) -> dict[str, int] | None:
    """Bytes by phase of a few layers of the model; `None` where they cannot be traced."""
    try:
        return predicted(step, card, facts, layers=FEW).phases
    except LoracleError:
        return None


def _tells(one: Predicted, usual: dict[str, int] | None, other: dict[str, int] | None, grows: int) -> tuple[bool, bool]:
    """Whether a way may take more, and whether it may take less, by what a few layers take; `grows` is how many times as many
    there are. What is less in one phase than it is more in another counts if it would be more, should it alone grow with the
    depth, or where the phase is that of the peak."""
    if usual is None or other is None:
        return True, True
    change = {phase: other[phase] - usual[phase] for phase in PHASES}
    rise, fall, least = max(0, *change.values()), -min(0, *change.values()), TELLS * one.allocated
    at_peak = grows * change[max(PHASES, key=lambda phase: one.phases[phase])]
    return rise > 0 and (grows * rise > fall or at_peak > least), fall > 0 and (grows * fall > rise or at_peak < -least)


def _in_one_chunk(step: TrainingStep) -> TrainingStep | None:
    """A batch of the same run with so few tokens that TRL's loss takes them at once: where head and embedding are one weight it
    may take more (`chunked_nll`). `None` where all batches are as long as this one, or nothing of the head is trained."""
    few = max(CHUNK // step.micro_batch_rows, 1)
    told = step.loss == "chunked_nll" and step.method == "full" and step.padded and step.length > few
    told = told and not (step.trl and version_of(step.trl) >= TILED)
    return step.model_copy(update={"length": few}) if told else None
