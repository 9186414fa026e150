"""The JSON of facts and recommendation, an interface: names are fixed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from recommender.decide import recommend
from recommender.facts import DataFacts, Facts, Goal, Machine
from recommender.plan import Plan
from recommender.plan_file import field_paths
from recommender.recommendation import Recommendation
from recommender.step import TrainingStep

EXAMPLE = json.loads((Path(__file__).parent / "facts_example.json").read_text())


@pytest.fixture(scope="module")
def answer() -> dict[str, Any]:
    advice = recommend(Facts.model_validate_json(json.dumps(EXAMPLE)))
    content: dict[str, Any] = json.loads(json.dumps(advice.model_dump(mode="json"), allow_nan=False))
    return content


def test_every_documented_fact_is_read() -> None:
    read = Facts.model_validate_json(json.dumps(EXAMPLE)).model_dump(mode="json")
    for part in ("machine", "model", "data", "goal"):
        for name, value in EXAMPLE[part].items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                assert [{k: d[k] for k in v} for d, v in zip(read[part][name], value, strict=True)] == value
            else:
                assert read[part][name] == value, name


def test_every_documented_key_is_answered(answer: dict[str, Any]) -> None:
    assert set(answer) >= {
        "verdict", "confidence", "runner_up", "candidates", "settings", "reasons", "warnings", "instead", "would_change",
    }  # fmt: skip
    settings = {
        "learning_rate", "epochs", "effective_batch", "total_steps", "warmup_steps", "schedule", "max_length",
        "weight_decay", "precision", "gradient_checkpointing", "optimizer", "rank", "alpha", "target_modules", "dropout",
        "seeds", "metric", "class_weights", "early_stopping",
    }  # fmt: skip
    assert [c["method"] for c in answer["candidates"]] == ["full", "lora", "qlora"]
    for candidate in answer["candidates"]:
        assert set(candidate) >= {
            "method", "fits", "removed_by", "points", "memory", "hours", "trained_parameters", "disk", "settings",
        }  # fmt: skip
        assert set(candidate["memory"]) >= {"predicted", "low", "high", "available", "origin"}
        assert set(candidate["hours"]) >= {"predicted", "low", "high", "origin"}
        assert set(candidate["settings"]) >= settings
    assert set(answer["settings"]) >= settings
    for reason in answer["reasons"]:
        assert set(reason) >= {"code", "text", "facts", "source"}
    for warning in answer["warnings"]:
        assert set(warning) >= {"code", "text", "facts"}


def test_the_documented_example_is_answered_as_documented(answer: dict[str, Any]) -> None:
    assert (answer["verdict"], answer["confidence"], answer["runner_up"]) == ("full", "clear", "lora")
    assert answer["candidates"][0]["points"] == 3.0
    assert answer["settings"] == answer["candidates"][0]["settings"]
    assert "warmup_longer_than_run" in {w["code"] for w in answer["warnings"]}
    assert {"fits", "W1_small_encoder"} <= {r["code"] for r in answer["reasons"]}
    assert answer["version"] == 1


def test_a_recommendation_is_read_back_as_it_was_written(answer: dict[str, Any]) -> None:
    assert Recommendation.model_validate_json(json.dumps(answer)).model_dump(mode="json") == answer


def test_null_means_not_known_everywhere() -> None:
    """Also where the field has a default that is not `None`."""
    goal = dict.fromkeys(Goal.model_fields)
    machine = dict.fromkeys(Machine.model_fields)
    data = dict.fromkeys(DataFacts.model_fields)
    assert Facts.model_validate({"goal": goal, "machine": machine, "data": data}) == Facts()
    assert Facts.model_validate(dict.fromkeys(Facts.model_fields)) == Facts()


def test_unknown_keys_are_ignored_and_absent_ones_mean_not_known() -> None:
    facts = Facts.model_validate_json('{"machine": {"quantum": true}, "weather": "fine", "model": {"layers": null}}')
    assert facts == Facts()


@pytest.mark.parametrize(
    "wrong",
    [
        {"machine": {"ram_available": -1}},
        {"data": {"rows": 1e30}},
        {"data": {"conflict_share": 1.5}},
        {"model": {"layers": "many"}},
        {"model": {"family": "oracle"}},
        {"goal": {"time_budget_hours": -1}},
        {"measured": {"seconds_per_step": {"full": 0}}},
        {"measured": {"memory_profile": {"steps": 5}}},
        {"measured": {"memory_profile": {"untimed": 5}}},
        {"measured": {"memory_profile": {"runs": [1]}}},
        {"measured": {"memory_profile": {"context": "much"}}},
    ],
)
def test_impossible_facts_are_refused_by_name(wrong: dict[str, Any]) -> None:
    ((part, fields),) = wrong.items()
    with pytest.raises(ValidationError) as caught:
        Facts.model_validate_json(json.dumps(wrong))
    assert caught.value.errors()[0]["loc"][:2] == (part, next(iter(fields)))


@pytest.mark.parametrize(
    ("page", "fields"),
    [("memory.md", list(TrainingStep.model_fields)), ("run-folder.md", [path[-1] for path in field_paths(Plan)])],
)
def test_the_documents_tell_every_field_that_people_write(page: str, fields: list[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in fields if not re.search(rf"[`.]{name}`", text)] == []
