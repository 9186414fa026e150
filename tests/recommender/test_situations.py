"""Situations and what the best practitioner in the room would say in them, one JSON file each.

Written from evidence and practice, not from what the program says. In `expect`, `verdict` may be a list of acceptable ones; a
setting is a value, or the lowest and highest acceptable number; `seeds` and other lists are compared as they are.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from recommender.decide import recommend
from recommender.explain import explain
from recommender.facts import Facts
from recommender.figures import size
from recommender.plan import DataChoice, ModelChoice, Plan
from recommender.recommendation import METHOD_NAMES, METHODS, Recommendation

FILES = sorted((Path(__file__).parent / "situations").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@functools.cache
def advised(path: Path) -> Recommendation:
    return recommend(Facts.model_validate_json(json.dumps(read(path)["facts"])))


def within(actual: Any, wanted: Any) -> bool:
    """Whether a setting is as wanted: the value itself, or between two numbers."""
    bounds = isinstance(wanted, list) and len(wanted) == 2 and not isinstance(actual, tuple)
    return bool(wanted[0] <= actual <= wanted[1]) if bounds else actual == (tuple(wanted) if isinstance(wanted, list) else wanted)


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_situation(path: Path) -> None:
    situation = read(path)
    expected = situation["expect"]
    advice = advised(path)
    said = {r.code for r in advice.reasons}
    warned = {w.code for w in advice.warnings}
    verdicts = expected["verdict"] if isinstance(expected["verdict"], list) else [expected["verdict"]]
    same = (f"{METHOD_NAMES.get(advice.verdict)}, ", *(["All layers"] if advice.settings.trained == "all" else []))
    wrong = {
        "verdict": advice.verdict if advice.verdict not in verdicts else None,
        "confidence": advice.confidence if expected.get("confidence", advice.confidence) != advice.confidence else None,
        "runner_up": advice.runner_up if expected.get("runner_up", advice.runner_up) != advice.runner_up else None,
        "reasons missing": set(expected.get("reasons", ())) - said,
        "reasons too many": set(expected.get("not_reasons", ())) & said,
        "warnings missing": set(expected.get("warnings", ())) - warned,
        "warnings too many": set(expected.get("not_warnings", ())) & warned,
        "settings": {
            name: getattr(advice.settings, name)
            for name, wanted in expected.get("settings", {}).items()
            if not within(getattr(advice.settings, name), wanted)
        },
        "removed": {
            method: removed
            for method, code in expected.get("removed", {}).items()
            if (removed := advice.candidate(method).removed_by) != code
        },
        "instead": expected.get("instead", bool(advice.instead)) != bool(advice.instead),
        "no change": [text for text in advice.would_change if text.startswith(same)],
    }
    assert not {what: found for what, found in wrong.items() if found}, situation["about"]
    assert all(r.facts["setting"] and r.source for r in advice.settings_reasons)
    about = {r.facts["setting"] for r in advice.settings_reasons}
    assert about >= {"learning_rate", "schedule", "warmup_steps", "epochs", "effective_batch", "max_length", "seeds", "precision"}
    own = {
        "few_steps",
        "low_lora_rate",
        "high_full_rate",
        "long_warmup",
        "warmup_longer_than_run",
        "alpha_without_rate",
        "one_seed",
    }
    assert not own & {w.code for w in advice.warnings if w.about == "run"}, "Loracle's own settings break its own rules"


SIZE = re.compile(r"\d+(?:\.\d+)? [kMGT]B")
ARITHMETIC = {"variant_adamw_8bit", "D4_many_full_copies", "S_adapters_fp32", "no_disk", "no_hub_disk", "busy_device", "assumed"}
"""Sentences with bytes of weights, moments, files and of what other programs hold: no peak is among them."""


def test_no_sentence_tells_bytes_that_nobody_has_counted() -> None:
    for path in FILES:
        facts, advice = Facts.model_validate_json(json.dumps(read(path)["facts"])), advised(path)
        assert not any(c.memory.counted for c in advice.candidates)
        free = {size(c.memory.available) for c in advice.candidates}
        coded = [(said.code, said.text) for said in explain(facts, advice)]
        coded += [(said.code, said.text) for said in advice.settings_reasons]
        coded += [(said.code, said.text) for said in advice.warnings]
        texts = [text for code, text in coded if code not in ARITHMETIC and code != "would_change"]
        elsewhere = (*advice.instead, *advice.would_change)
        texts += [text for text in elsewhere if " disk" not in text and "other programs" not in text]
        assert not {told for text in texts for told in SIZE.findall(text)} - free, path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_candidates_settings_make_a_plan(path: Path) -> None:
    facts = Facts.model_validate_json(json.dumps(read(path)["facts"]))
    for candidate in advised(path).candidates:
        own = {name for name in Plan.model_fields if name in type(candidate.settings).model_fields}
        Plan(
            model=ModelChoice(id="m"),
            data=DataChoice(train="d"),
            task=facts.data.task or "classification",
            method=candidate.method,
            **candidate.settings.model_dump(include=own),
        )


def test_the_situations_reach_every_verdict_and_every_method() -> None:
    found = {advised(p).verdict for p in FILES}
    assert found == {*METHODS, "not_yet", "does_not_fit"}
