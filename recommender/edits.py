"""What a person's own settings would take: the candidate again, with a plan's settings in the place of the advised ones."""

from typing import NamedTuple

from recommender import hyper, rates
from recommender.candidates import candidate_with
from recommender.counting import split_of
from recommender.facts import Facts
from recommender.lints import lint_for
from recommender.plan import Plan
from recommender.recommendation import Candidate, Caution, Reason, Settings
from recommender.setting_reasons import setting_reasons
from recommender.shape import shape_of


class Edited(NamedTuple):
    """A candidate with settings of the person's own."""

    candidate: Candidate
    against: tuple[Reason, ...]
    """Hard constraints that they break."""
    cautions: tuple[Caution, ...]
    """What an expert would say about them, beyond what is to be said of the advised ones."""


def edited(facts: Facts, advised: Candidate, plan: Plan) -> Edited:
    """`advised` with the settings of `plan`: memory, time, disk and trained parameters anew. Pure and quick."""
    shape = shape_of(facts.model, facts.data.task)
    settings = _settings(facts, advised, plan)
    candidate, reasons = candidate_with(facts, shape, advised.method, settings)
    against = tuple(r for r in reasons if r.code == candidate.removed_by)
    if candidate.removed_by is None and advised.fits:  # what made it pointless, if anything did, is no matter of settings
        candidate = candidate.model_copy(update={"removed_by": advised.removed_by})
    usual = {(c.code, c.text) for c in _said(facts, advised, advised.settings)}
    said = _said(facts, advised, settings, rslora=plan.rslora)
    cautions = tuple(c for c in said if (c.code, c.text) not in usual)
    return Edited(candidate.model_copy(update={"points": advised.points}), against, cautions)


def reasons_of(facts: Facts, candidate: Candidate) -> dict[str, Reason]:
    """Why each setting of that candidate is what it is, by name."""
    found = setting_reasons(facts, shape_of(facts.model, facts.data.task), candidate)
    return {str(r.facts.get("setting")): r for r in found}


def _settings(facts: Facts, advised: Candidate, plan: Plan) -> Settings:
    own = {name: getattr(plan, name) for name in Plan.model_fields if name in Settings.model_fields}
    usual, data = split_of(facts.data), plan.data
    validation = usual.validation if data.validation_rows is None else data.validation_rows
    held_out = usual.held_out if data.held_out_rows is None else data.held_out_rows
    held_out = held_out if facts.data.eval_rows is None else 0
    rows = _training_rows(facts, validation, held_out, plan.max_length)
    steps = rates.steps_of(rows, plan.epochs, plan.effective_batch)
    return advised.settings.model_copy(
        update=own | {"validation_rows": validation, "held_out_rows": held_out, "total_steps": steps}
    )


def _said(facts: Facts, advised: Candidate, settings: Settings, *, rslora: bool = False) -> list[Caution]:
    rows = _training_rows(facts, settings.validation_rows, settings.held_out_rows, settings.max_length)
    own = {"method": advised.method, "rows": rows, "rslora": rslora}
    return lint_for(settings.model_dump(exclude={"seeds"}) | own, facts)


def _training_rows(facts: Facts, validation: int, held_out: int, length: int) -> int:
    """Rows (of raw text: blocks) that are left to train on."""
    usual = split_of(facts.data)
    split = usual._replace(train=max(sum(usual) - validation - held_out, 1), validation=validation, held_out=held_out)
    return hyper.training_rows(facts.data, split, length)
