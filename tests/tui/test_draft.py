"""What a person has said so far, and how it is kept."""

import threading
from collections.abc import Callable
from typing import Any

from engine.named import local_model
from engine.userstate import state_folder
from recommender.facts import Facts, Goal
from recommender.plan_file import dump
from tui import draft as drafts
from tui.draft import Draft


def test_threads_that_keep_a_draft_at_once_leave_a_whole_one() -> None:
    every = [Draft(data=str(n) * 1_000 * (n + 1)) for n in range(4)]
    threads = [threading.Thread(target=drafts.keep, args=(draft,)) for draft in every * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drafts.kept() in every
    assert [file.name for file in state_folder().iterdir()] == ["draft.json"]


def test_a_run_again_has_the_goal_and_the_rows_that_it_was_advised_for(make_run: Callable[..., Any], facts: Facts) -> None:
    run = make_run().run
    goal = Goal(time_budget_hours=2.0, forgetting="high")
    (run.path / "facts.json").write_text(facts.model_copy(update={"goal": goal}).model_dump_json())
    plan = run.plan()
    rows = plan.data.model_copy(update={"validation_rows": 77, "columns": {"text": "t", "label 1": "good", "group": "id"}})
    (run.path / "plan.yaml").write_text(dump(plan.model_copy(update={"data": rows})))
    draft = drafts.of_run(run)
    assert draft.goal == {"time_budget_hours": 2.0, "forgetting": "high"}
    assert draft.settings["lora"]["data.validation_rows"] == "77"
    assert draft.columns == {"text": "t", "group": "id"}, "columns of 0 and 1 are found, nobody can name them"
    (run.path / "facts.json").unlink()
    assert drafts.of_run(run).goal == {}
    model = plan.model.model_copy(update={"id": str(local_model("demo"))})
    assert drafts.of_plan(plan.model_copy(update={"model": model})).model == "demo", "not the place of a package"


def test_what_was_begun_is_put_aside_for_another_and_taken_up_again() -> None:
    mine, other = Draft(model="mine", goal={"purpose": "code"}), Draft(model="other", data="b.csv")
    drafts.keep(mine)
    assert not drafts.begin(mine)
    assert drafts.begin(other)
    assert (drafts.kept(), drafts.aside()) == (other, [mine])
    assert drafts.begin(mine)
    assert (drafts.kept(), drafts.aside()) == (mine, [other])
    drafts.used(mine)
    assert not drafts.begin(other)  # nothing was begun since
    assert drafts.aside() == []
    for n in range(20):
        drafts.begin(Draft(model=str(n)))
    assert [d.model for d in drafts.aside()] == [str(n) for n in range(18, 9, -1)]


def test_one_answer_out_of_range_takes_no_other_with_it() -> None:
    goal = Draft(goal={"time_budget_hours": 99_999_999, "purpose": "code", "forgetting": "very"}).wanted()
    assert (goal.time_budget_hours, goal.purpose, goal.forgetting) == (None, "code", "low")
