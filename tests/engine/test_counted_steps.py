"""Which steps are counted before somebody decides on facts, and that what is told hangs on them."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from engine.prediction import candidates
from engine.prediction.candidates import SECONDS, steps_of, with_counted_steps, with_traces
from recommender.decide import completed, decide, recommend, settled
from recommender.edits import edited
from recommender.facts import Facts
from recommender.flips import _with_free_memory
from recommender.plan import Plan
from recommender.traced import SHOWN, asking, at_once
from tui import commands_advice

EXAMPLE = Path(__file__).parents[1] / "recommender" / "facts_example.json"
FACTS = json.loads(EXAMPLE.read_text())
STATES = {"full": 3.0e9, "lora": 0.9e9, "qlora": 0.8e9}
Asked = list[dict[str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Every step that a child is asked for; it says more than the formula of states and less of activations."""
    found: Asked = []
    known: set[str] = set()

    def told(plan: dict[str, Any]) -> dict[str, Any]:
        rows, length, rank = plan["rows"], plan["length"], plan["settings"].get("rank", 0)
        token = 2e4 if plan["settings"]["gradient_checkpointing"] else 3e5
        states = STATES[plan["method"]] * (0.5 if plan["settings"]["optimizer"] != "adamw" else 1)
        parts = {"weights": int(states), "activations": int(token * rows * length)}
        grows = [["backward", [["weights", [[0, states]]], ["activations", [[3, token]]]]]]
        fit = {"ways": [1.0, 0, 0, 0, 12], "at": [rows, length, rank], "positions": grows}
        return {"peak": sum(parts.values()), "parts": parts, "fit": fit}

    def each(
        request: dict[str, Any], plans: list[dict[str, Any]], *, waits: bool = True, **_: object
    ) -> tuple[dict[str, Any], set[str]]:
        def name(plan: dict[str, Any]) -> str:
            return json.dumps(plan | {"name": "", "beside": None}, sort_keys=True)

        if waits:
            found.extend(plan for plan in plans if name(plan) not in known)
            known.update(map(name, plans))
        return {p["name"]: told(p) for p in plans if name(p) in known}, {p["name"] for p in plans if name(p) not in known}

    monkeypatch.setenv("LORACLE_TRACE", "1")
    monkeypatch.setattr("engine.prediction.candidates.each", each)
    return found


def _facts(free: float) -> Facts:
    return _with_free_memory(Facts.model_validate(FACTS), int(free))


def test_a_number_in_a_sentence_about_other_machines_is_counted_too(asked: Asked) -> None:
    """Far above all that fits, so that nothing of this machine is near: still the limit is that of a counted step."""
    facts = _facts(60e9)
    counted = with_counted_steps(facts)
    assert "LoRA, if less memory were free." in recommend(facts).would_change
    limit = _limit(recommend(counted).would_change)
    assert any(plan["beside"] for plan in asked)
    above, below = (decide(_with_free_memory(counted, int(free))) for free in (limit + 0.1e9, limit - 0.2e9))
    assert (above.verdict, below.verdict) == ("full", "lora")
    assert above.candidate("full").memory.counted


def _limit(would_change: tuple[str, ...]) -> float:
    (said,) = [text for text in would_change if "less than" in text]
    return 1e9 * float(re.fullmatch(r"LoRA, if less than ([0-9.]+) GB were free.", said)[1])  # type: ignore[index]


def test_facts_are_counted_where_a_formula_could_decide_otherwise_and_else_it_says_so(
    asked: Asked, loracle_here: Callable[..., Any], tmp_path: Path
) -> None:
    def plan(free: float, *more: str) -> str:
        (tmp_path / "facts.json").write_text(_facts(free).model_dump_json())
        done = loracle_here("plan", "--facts", "facts.json", *more)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    assert "--trace counts it" in plan(500e9)
    assert plan(500e9).count("? of 500 GB  fits easily") == 3
    assert plan(500e9, "--json").count('"counted": false') == 3
    assert not asked
    assert '"counted": false' not in plan(500e9, "--json", "--trace")
    assert {p["method"] for p in asked if not p["beside"]} == {"full", "lora", "qlora"}
    asked.clear()
    assert '"counted": false' not in plan(500e9, "--json"), "what was counted once is used"
    assert not asked
    assert "--trace counts it" not in plan(2.6e9)
    assert asked


def test_the_size_of_a_model_that_would_fit_is_told_where_its_step_was_counted(asked: Asked) -> None:
    """110M parameters hold 0.8 GB of QLoRA's states here, however short the texts are; nothing was said but "a smaller model"."""
    (said,) = [text for text in recommend(with_counted_steps(_facts(1.4e9))).instead if "smaller" in text]
    found = re.fullmatch(r"Use a smaller model \(of about (\d+)M parameters at most\), or a machine with at least .* free.", said)
    assert found is not None
    assert 5 <= int(found[1]) < 110


def test_what_would_save_most_is_counted_where_it_is_explained(asked: Asked) -> None:
    def narrow_states() -> bool:
        return any(p["settings"]["optimizer"] == "adamw_8bit" and not p["settings"]["gradient_checkpointing"] for p in asked)

    with_counted_steps(_facts(60e9))
    assert not narrow_states()
    with_counted_steps(_facts(60e9), explained=True)
    assert narrow_states()


def test_what_there_was_no_time_to_count_is_told_by_name(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = _facts(60e9)
    given = argparse.Namespace(json=False, explain=False)

    def told(facts: Facts) -> str:
        commands_advice._show_advice(given, facts, recommend(facts))
        return capsys.readouterr().err

    assert told(with_counted_steps(facts)) == ""
    lacking = [c for c in recommend(facts).candidates if c.method != "lora"]
    assert told(with_traces(facts, steps_of(facts, lacking))) == "The memory of LoRA could not be counted, or not in time.\n"
    monkeypatch.setenv("LORACLE_TRACE", "0")
    assert told(facts) == "", "which was asked for"


def test_numbers_that_nobody_is_shown_are_not_counted() -> None:
    """What 4-bit weights would save of memory: on other facts, and where neither of the other methods may run."""
    for situation, methods in (("qwen_moe_80gb", set()), ("smol_135m", {"lora", "qlora"})):
        facts = Facts.model_validate(json.loads((EXAMPLE.parent / "situations" / f"{situation}.json").read_text())["facts"])
        with asking() as near:
            settled(completed(facts)[0])
        with asking() as every:
            recommend(facts)
        here, elsewhere = ({step for step, off in noted.items() if off == SHOWN} for noted in (near, every))
        assert {step.method for step in here} == methods
        assert "qlora" not in {step.method for step in elsewhere - here}


def test_a_persons_own_step_is_counted_first_and_nobody_waits_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine counts a step in fifty seconds: the run's own stood behind three that it did not take."""
    clock = Mock(monotonic=Mock(return_value=0.0))
    asked: list[tuple[int | None, float]] = []

    def each(
        request: dict[str, Any], plans: list[dict[str, Any]], *, seconds: float, **_: object
    ) -> tuple[dict[str, Any], set[str]]:
        first, *others = plans
        asked.append((first["settings"].get("rank"), seconds))
        clock.monotonic.return_value += 50.0
        return {first["name"]: {"peak": 10**9, "parts": {}}}, {plan["name"] for plan in others}

    monkeypatch.setenv("LORACLE_TRACE", "1")
    monkeypatch.setattr(candidates, "each", each)
    monkeypatch.setattr(candidates, "time", clock)
    facts = _facts(60e9)
    plan = Plan.model_validate({
        "model": {"id": "x"}, "data": {"train": "a.csv"}, "learning_rate": 2e-5, "epochs": 1, "effective_batch": 8,
        "max_length": 64, "method": "qlora", "rank": 24, "alpha": 16, "target_modules": "query",
    })  # fmt: skip
    own = edited(facts, recommend(facts).candidate("qlora"), plan).candidate
    counted = with_counted_steps(facts, lambda _: [plan])
    assert (asked[0], [seconds for _, seconds in asked]) == ((24, SECONDS), [SECONDS, SECONDS - 50, SECONDS - 100])
    assert at_once(counted, steps_of(facts, [own])[0]) is not None
