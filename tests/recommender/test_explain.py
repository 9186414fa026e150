"""The chain behind a recommendation, step by step."""

import json
from pathlib import Path

import pytest

from recommender import savings
from recommender.decide import recommend
from recommender.explain import STAGES, explain
from recommender.facts import Facts, Measured
from recommender.footprint import Step
from recommender.recommendation import METHODS
from recommender.traced import as_facts
from recommender.variants import step_of

EXAMPLE = json.loads((Path(__file__).parent / "facts_example.json").read_text())


def facts(**changes: dict[str, object]) -> Facts:
    content = {part: dict(fields) for part, fields in EXAMPLE.items()}
    for part, fields in changes.items():
        content[part] |= fields
    return Facts.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("changes", [{}, {"data": {"rows": 30, "unique_rows": 30}}, {"machine": {"nf4": False}}])
def test_every_reason_is_a_step_in_the_order_of_the_decision(changes: dict[str, dict[str, object]]) -> None:
    situation = facts(**changes)
    advice = recommend(situation)
    steps = explain(situation, advice)
    stages = [STAGES.index(s.stage) for s in steps]
    assert stages == sorted(stages)
    assert {s.stage for s in steps} >= {"gates", "candidates", "constraints", "points", "verdict"}
    for reason in (*advice.reasons, *advice.settings_reasons):
        assert [(s.text, s.source) for s in steps if s.code == reason.code and s.text == reason.text] == [
            (reason.text, reason.source)
        ]


def test_the_rules_points_add_up_to_what_each_candidate_has() -> None:
    situation = facts()
    advice = recommend(situation)
    given = [s.points for s in explain(situation, advice) if s.points is not None and s.code != "points_total"]
    for method in METHODS:
        assert sum(p[method] for p in given) == pytest.approx(advice.candidate(method).points, abs=0.01)


def test_the_last_word_is_the_verdict_and_what_would_change_it() -> None:
    situation = facts()
    advice = recommend(situation)
    last = [s for s in explain(situation, advice) if s.stage == "verdict"]
    assert last[0].code == f"verdict_{advice.verdict}"
    assert tuple(s.text for s in last[1:]) == advice.would_change


def test_settings_of_what_can_never_run_are_not_explained() -> None:
    one = {"rows": 900, "unique_rows": 900, "label_counts": [900], "classes": 1, "eval_rows": None}
    advice = recommend(facts(data=one))
    steps = explain(facts(data=one), advice)
    assert not [s for s in steps if s.stage == "settings"]
    assert not [w for w in advice.warnings if w.code == "small_held_out"]
    (last,) = (s for s in steps if s.code.startswith("verdict"))
    assert "no method can train on this as it is" in last.text


def test_where_the_memory_goes_is_told_of_what_was_counted_and_what_would_save_most_once_all_of_it_was() -> None:
    situation = facts()
    lora = recommend(situation).candidate("lora")
    changed = list(savings.steps(situation, lora))

    def told(*steps: Step) -> dict[str, str]:
        entries = [as_facts(s, 10**9 - n * 10**8, {"weights": 10**8, "activations": 9 * 10**8}) for n, s in enumerate(steps)]
        known = situation.model_copy(update={"measured": Measured(memory_profile={"steps": entries})})
        return {s.code: s.text for s in explain(known, recommend(known)) if s.text.startswith("LoRA: ") and "memory" in s.code}

    own = step_of(situation, "lora", lora.settings)
    assert not told()
    where = {"memory_where": "LoRA: where the memory goes: 1.6 GB (activations 900 MB, runtime 600 MB, weights 100 MB)."}
    assert told(own, *changed[:-1]) == where
    assert "would save the most, about " in told(own, *changed)["memory_saving"]
