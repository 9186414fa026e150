"""Watching a run, stopping it, leaving it, coming back to it."""

import asyncio
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.content import Content

from engine import groups
from engine.files import write_json
from engine.new_run import create
from engine.rundir import RunDirectory
from recommender.decide import recommend
from recommender.errors import InputError
from recommender.facts import Facts
from tests.engine.test_runs import PLAN
from tests.tui.driving import screen, showing, wait
from tui import views_run, views_samples, work
from tui.app import LoracleApp
from tui.endings import ending
from tui.headless import watch
from tui.live_advice import advice
from tui.run_rows import RunList
from tui.screens import run as run_module
from tui.screens.confirm import ConfirmScreen
from tui.screens.home import HomeScreen
from tui.screens.pick import PickScreen
from tui.screens.recommendation import RecommendationScreen
from tui.screens.result import ResultScreen
from tui.screens.run import RunScreen
from tui.watching import Live
from tui.widgets.log_view import LogView
from tui.widgets.quiet import Quiet


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SETTLE_SECONDS", 0.1)


def log_of(app: LoracleApp) -> str:
    return app.screen.query_one(LogView).text


async def test_the_screen_follows_the_event_log(runs: Path, make_run: Any) -> None:
    worker = make_run()
    worker.begin(total=100)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with app.run_test(size=(80, 24)) as pilot:
        worker.events.write("phase", name="before", done=40, total=132, unit="rows")
        await wait(pilot, lambda: "scoring the untouched model 40/132" in screen(app))
        worker.steps(1, 30)
        worker.evaluate(25)
        worker.events.write("heartbeat", machine={"memory": 1_500_000_000, "cpu": 97.0, "disk_free": 50_000_000_000})
        await wait(pilot, lambda: "step 30/100" in screen(app) and "0.800" in screen(app) and "6 400 tok/s" in screen(app))
        shown = screen(app)
        assert "left · ends" in shown
        assert "epoch 1.2/4" in shown
        assert "6 400 tok/s" in shown
        assert "cpu 97%" in shown
        assert "predicted 2.0 GB" in shown
        assert any(0x2800 < ord(c) <= 0x28FF for c in shown) or "*" in shown
        assert "evaluation at step 25" in log_of(app)


async def test_another_size_during_a_run_shows_what_there_is_room_for(runs: Path, make_run: Any) -> None:
    worker = make_run()
    worker.events.write("phase", name="load", done=0, total=0, unit="")
    worker.begin()
    worker.steps(1, 5)
    worker.evaluate(5)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "step 5/100" in screen(app)) as pilot:
        await wait(pilot, lambda: "5 evaluations · 6 samples · 7 advice" in screen(app))  # in the frame of the log
        y, line = next((y, line) for y, line in enumerate(screen(app).splitlines()) if "6 samples" in line)
        await pilot.click(offset=(line.index("5 evaluations") + 2, y))
        await wait(pilot, lambda: "─ 5 evaluations" in screen(app) and "4 log · 6 samples" in screen(app))
        await pilot.resize_terminal(120, 40)
        await wait(pilot, lambda: all(part in screen(app) for part in ("▶ train", "5 evaluations", "7 advice", "4 log")))
        await pilot.press("7")  # in sight already; where there is room for one, it is the one asked for last
        await pilot.resize_terminal(80, 24)
        await wait(pilot, lambda: "▶ train" not in screen(app) and "step 5/100" in screen(app))
        await wait(pilot, lambda: "─ 7 advice" in screen(app) and "4 log · 5 evaluations" in screen(app))


def test_a_long_name_leaves_room_for_what_the_run_does(worker: Any) -> None:
    worker.steps(1, 5)
    said = views_run.headline(f"20260101-000000-{'n' * 60}", worker.run.state(), roomy=False).plain
    assert said == f"{'n' * 23}… · training · epoch 0.2/4"


def test_where_the_loss_decides_it_has_one_column_of_the_evaluations(worker: Any) -> None:
    worker.steps(1, 5)
    assert views_run.evaluations(worker.run.state(), "loss", 60).plain.splitlines()[0].split() == ["step", "loss"]


async def test_a_pane_takes_the_room_of_all_and_gives_it_back(runs: Path, worker: Any) -> None:
    worker.steps(1, 5)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "step 5/100" in screen(app)) as pilot:
        await pilot.press("2", "m")
        await wait(pilot, lambda: "4 log" not in screen(app) and "loss" in screen(app))
        assert app.screen.query_one("#now").size.width > 70
        assert "step 5/100" in screen(app)  # the progress stays in sight
        await pilot.press("escape")
        await wait(pilot, lambda: "4 log" in screen(app) and "1 loss" in screen(app))
        assert isinstance(app.screen, RunScreen)
        await pilot.press("m", "5")  # another pane is asked for: all are back, that one in front
        await wait(pilot, lambda: "5 evaluations" in screen(app) and "1 loss" in screen(app))


async def test_what_is_asked_for_while_its_screen_is_left_is_not_done(runs: Path, worker: Any) -> None:
    app, calls = LoracleApp(runs=runs), []
    async with app.run_test(size=(80, 24)) as pilot:
        left = RunScreen(worker.run)
        await app.push_screen(left)
        app.back()
        for _moment in range(100):  # a thread may come back in any of them
            left.set_interval(0.0001, lambda: calls.append("a timer"))
            left.call_after_refresh(calls.append, "after a layout")
            await asyncio.sleep(0)
        await pilot.pause(0.1)
    assert calls == []


async def test_steps_of_absurd_numbers_are_drawn(runs: Path, worker: Any) -> None:
    worker.steps(1, 5)
    fields = {"epoch": 1, "learning_rate": 0.1, "grad_norm": 1, "tokens": 1, "rows": 1, "seconds": 0.1, "memory": 1}
    worker.events.write("step", step=1e308, loss=0.5, **fields)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "eval loss" in screen(app)):
        pass


async def test_a_run_that_ends_while_watched_leads_to_its_result(runs: Path, worker: Any) -> None:
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: isinstance(app.screen, RunScreen) and app.screen.live_run is not None) as pilot:
        worker.steps(1, 100)
        worker.report()
        worker.end()
        await wait(pilot, lambda: isinstance(app.screen, ResultScreen))
        await wait(pilot, lambda: "after training" in screen(app))
        shown = screen(app)
        assert "0.850" in shown
        assert "+35.0 (+25.0 +45.0)" in shown
        await pilot.press("w")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
        await wait(pilot, lambda: "Done: enter shows the result" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, ResultScreen))


async def test_the_last_answers_of_a_run_do_not_hinder_its_result(runs: Path, worker: Any) -> None:
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: isinstance(app.screen, RunScreen) and app.screen.live_run is not None) as pilot:
        worker.report()  # what the same look at the events finds: the first answers, and the end
        answer = {"split": "validation", "step": 100, "number": 0, "prompt": "charged twice", "wanted": "w", "answer": "w"}
        worker.events.write("sample", **answer)
        worker.end()
        await wait(pilot, lambda: isinstance(app.screen, ResultScreen) and "after training" in screen(app))


async def test_a_dead_worker_is_noticed_and_its_last_words_are_shown(runs: Path, worker: Any) -> None:
    worker.steps(1, 5)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "step 5/100" in screen(app)) as pilot:
        await wait(pilot, lambda: re.search("2 now.*now [0-9–].*cpu|2 now.*no gauges.*now", screen(app), re.S))
        worker.die("Killed: [/] \x1b[31mout of memory\x1b]0;hi\x07")
        await wait(pilot, lambda: "died" in screen(app))
        await wait(pilot, lambda: "out of memory" in log_of(app))
        assert "\x1b" not in log_of(app)
        assert "[/]" in log_of(app)
        await wait(pilot, lambda: "r resumes the run" in screen(app))
        assert "2 at the end" in screen(app)
        assert not re.search("now [0-9–]|cpu [0-9]|gauges", screen(app)), "nothing is so now"
        await pilot.press("7")
        await wait(pilot, lambda: "7 advice" in screen(app))
        told = app.screen.query_one("#advice-text", Quiet).render().plain
        assert "most often because the machine ran out of memory" in told
        assert "Nothing to do" not in told
        await pilot.press("5")
        await wait(pilot, lambda: "none: it ended before the first one" in screen(app))


@pytest.mark.parametrize(
    ("started", "free", "likely"),
    [(1.0, 10**9, "restarted"), (None, 100, "its disk is full"), (None, 10**9, "ran out of memory")],
)
def test_what_ended_a_worker_is_said_alike_in_the_app_and_without_it(
    worker: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    started: float | None,
    free: int,
    likely: str,
) -> None:
    worker.die(started=started)
    monkeypatch.setattr("engine.rundir.shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    assert watch(worker.run, as_json=False) == 4
    assert likely in " ".join(capsys.readouterr().err.split())
    state = worker.run.state()
    assert likely in ending(state)
    assert likely in advice(state, None, time.time())[0].text


def test_a_worker_that_says_its_last_word_while_it_is_looked_for_is_not_dead(
    runs: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_run()

    def gone(run: RunDirectory) -> bool:
        worker.end("stopped", 5, cause="stopped on request")
        return False

    monkeypatch.setattr(RunDirectory, "alive", gone)
    worker.begin()
    assert watch(worker.run, as_json=False) == 5
    for look in (lambda: Live(worker.run).state, worker.run.state, lambda: RunList().rows(runs)[0]):
        worker.begin()
        assert look().status == "stopped"


async def test_a_stopped_run_is_resumed_with_r(runs: Path, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.steps(1, 5)
    worker.events.write("checkpoint", step=5, path="x", bytes=1, seconds=0.1, best=False)
    worker.end("stopped", 5, cause="stopped on request", checkpoint=5)
    resumed: list[str] = []
    monkeypatch.setattr("engine.runs.resume", lambda run: resumed.append(run.name))
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "Stopped at the checkpoint of step 5" in screen(app)) as pilot:
        await pilot.press("r")
        await wait(pilot, lambda: resumed == [worker.run.name])
        await wait(pilot, lambda: "starting the worker" in screen(app))  # and not training, as when it was stopped
        worker.begin(resumed_from=5, resume="exact")
        worker.steps(6, 8)
        await wait(pilot, lambda: "step 8/100" in screen(app))
        assert "resumed from step 5 (exact)" in log_of(app)


def test_the_run_at_which_a_comparison_stands_still_is_resumed_with_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = groups.create(tmp_path / "runs", "compare", {"a": PLAN, "b": PLAN}, advice=recommend(Facts()), facts=Facts())
    first, second = (create(group.path, PLAN, None, name=name) for name in "ab")
    driven: list[groups.Group] = []
    resumed: list[RunDirectory] = []
    monkeypatch.setattr("tui.driver.leave_running", driven.append)
    monkeypatch.setattr("engine.runs.resume", resumed.append)
    work.resume(second)  # whose turn it is not
    assert (driven, resumed) == ([], [second])
    work.resume(first)
    assert (driven, resumed) == ([group], [second])
    write_json(group.report_file, {"version": 1, "complete": True})
    work.resume(first)
    assert (driven, resumed) == ([group], [second, first])


def test_a_comparison_whose_folder_cannot_be_written_is_told_when_it_is_to_go_on(tmp_path: Path) -> None:
    group = groups.create(tmp_path / "runs", "compare", {"a": PLAN}, advice=recommend(Facts()), facts=Facts())
    (group.path / "driver.log").mkdir()
    with pytest.raises(InputError, match=r"cannot be written \(Is a directory\)"):
        work.resume(create(group.path, PLAN, None, name="a"))


@pytest.mark.usefixtures("known")
async def test_a_run_that_would_fail_again_is_begun_anew_with_the_saner_setting(runs: Path, worker: Any) -> None:
    worker.steps(1, 5)
    cause = "The loss is no longer a number at step 6. Most likely learning_rate is too high (it is 0.0002)."
    cure = f"`loracle run {worker.run.path}/plan.yaml --set learning_rate=2e-06` starts over with a safer setting."
    worker.end("failed", 4, cause=cause, cure=cure, setting="learning_rate=2e-06")
    app = LoracleApp(runs=runs, attach=worker.run)
    async with app.run_test(size=(80, 24)) as pilot:
        hint = "e opens its plan with learning_rate=2e-06. r tries the same again."
        await wait(pilot, lambda: hint in " ".join(screen(app).split()))
        await wait(pilot, lambda: screen(app).splitlines()[-1].startswith(" e Again "))
        await pilot.press("e")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        plan = app.screen
        assert isinstance(plan, RecommendationScreen)
        assert (plan.chosen, plan._draft.settings["lora"]["learning_rate"]) == ("lora", "2e-06")


async def test_why_a_run_was_refused_is_told_whole_in_the_smallest_terminal(runs: Path, worker: Any) -> None:
    cause = "The longest rows take 11.2 GB, and 4.1 GB are free. " * 6 + "Use `--set max_length=256`."
    worker.end("refused", 3, cause=cause)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait(pilot, lambda: f"Refused: {cause} e changes the plan for a new run." in " ".join(screen(app).split()))
        assert all(part in screen(app) for part in ("1 loss", "2 at the end", "memory", "4 log"))


async def test_x_asks_the_worker_to_stop_and_shift_x_asks_the_person_first(runs: Path, worker: Any) -> None:
    worker.steps(1, 5)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: isinstance(app.screen, RunScreen) and app.screen.live_run is not None) as pilot:
        await pilot.press("x")
        await wait(pilot, lambda: (worker.run.control / "stop").exists())
        await wait(pilot, lambda: "finishes this step and saves" in screen(app))
        await pilot.press("X")
        await wait(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        assert not (worker.run.control / "stop-now").exists()
        await pilot.press("tab", "enter")
        await wait(pilot, lambda: (worker.run.control / "stop-now").exists())


@pytest.mark.parametrize("key", ["ctrl+q", "d"])
async def test_leaving_leaves_the_run_alone(runs: Path, worker: Any, key: str) -> None:
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: isinstance(app.screen, RunScreen) and app.screen.live_run is not None) as pilot:
        await pilot.press(key)
        await pilot.pause()
    assert app.left_running == worker.run
    assert list(worker.run.control.iterdir()) == []
    assert worker.run.alive()


async def test_hostile_texts_in_a_log_are_shown_as_plain_text(runs: Path, make_run: Any) -> None:
    worker = make_run()
    nasty = "[/] [@click=app.quit]x[/] \x1b]52;c;aGk=\x07 \x9b31m \u202ered"
    worker.begin(device=nasty, method=nasty)
    worker.events.write("warning", code="w", text=nasty, facts={})
    worker.events.write("phase", name=nasty, done=0, total=0, unit=nasty)
    worker.events.write("recovery", before={}, after={}, text=nasty)
    worker.events.write("evaluation", step=1, split=nasty, metrics={"accuracy": 0.5})
    worker.events.write("step", step="x", loss=nasty)
    worker.end("failed", 4, cause=nasty, cure=nasty)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "Failed:" in screen(app)):
        both = screen(app) + log_of(app)
        assert "[@click=app.quit]x[/]" in both
        assert not any(c in both for c in "\x1b\x07\x9b\u202e")


async def test_home_lists_runs_newest_first_and_opens_what_fits_their_state(runs: Path, make_run: Any) -> None:
    done = make_run("finished")
    done.begin()
    done.evaluate(100, "after", accuracy=0.91)
    done.end()
    done.report()
    done.die()
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "done" in screen(app)) as pilot:
        assert isinstance(app.screen, HomeScreen)
        assert "F1 0.900" in screen(app)
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, ResultScreen))
        await pilot.press("escape")
        await wait(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_a_damaged_report_is_said(runs: Path, worker: Any) -> None:
    worker.end()
    worker.run.report_file.write_text("{not json")
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "done" in screen(app)) as pilot:
        await pilot.press("enter")
        await wait(pilot, lambda: "missing or damaged" in " ".join(screen(app).split()))


async def test_a_report_of_any_shape_crashes_nothing(runs: Path, worker: Any) -> None:
    worker.end()
    worker.report(scores=[], gains=None, labels=["[/]"] * 3, rows="x", memory=1, seconds={"total": "soon"}, method=7)
    worker.report(scores={"after": {"confusion": [[1], "x"], "per_class": "no"}}, statements=[1, "ok [/]"], recoveries=[7])
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "done" in screen(app), (120, 40)) as pilot:
        await pilot.press("enter")
        await wait(pilot, lambda: "ok [/]" in screen(app))


async def test_a_report_that_cannot_be_shown_is_said_where_it_would_stand(
    worker: Any, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a reason that nobody has foreseen."""
    worker.report()
    monkeypatch.setattr("tui.views_result.cost", lambda report, **rest: report["no such key"])
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(ResultScreen(worker.run))
        await wait(pilot, lambda: "missing or damaged" in " ".join(screen(app).split()))


async def test_a_small_terminal_is_told_so(runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "this terminal is 40x12" in screen(app), (40, 12)) as pilot:
        await wait(pilot, lambda: "…" in screen(app).splitlines()[0])  # the machine, for which there is no room


@pytest.mark.parametrize("size", [(80, 24), (40, 12), (120, 40)])
async def test_what_is_marked_in_a_long_list_is_in_sight(size: tuple[int, int], runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=size) as pilot:
        app.push_screen(PickScreen("Which column?", [(str(n), Content(f"column {n}")) for n in range(30)]))
        await wait(pilot, lambda: "column 0" in screen(app))
        await pilot.press("end")
        await wait(pilot, lambda: "column 29" in screen(app) and "goes back" in screen(app))


async def test_samples_of_an_evaluation_say_what_is_right_and_what_was_said_at_first(worker: Any, runs: Path) -> None:
    worker.steps(1, 20)
    for step, answers in ((10, ("delivery", "billing")), (20, ("billing", "delivery"))):
        for number, answer in enumerate(answers):
            fields = {"prompt": f"charged twice {number}", "wanted": "billing", "answer": answer}
            worker.events.write("sample", split="validation", step=step, number=number, **fields)
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "samples at step 20" in screen(app), (120, 40)) as pilot:
        await wait(pilot, lambda: re.search(r"✓ billing \(was delivery\) +charged twice 0", screen(app)))
        await wait(pilot, lambda: re.search(r"✗ delivery \(wanted billing\) +charged twice 1", screen(app)))
        await pilot.resize_terminal(80, 24)
        await wait(pilot, lambda: "· 6 samples at step 20 ·" in screen(app))  # without room, in the lowest frame
        worker.steps(21, 30)
        worker.events.write("sample", split="validation", step=30, number=0, **(fields | {"prompt": "charged twice 0"}))
        await wait(pilot, lambda: "· 6 samples at step 30 ·" in screen(app))


@pytest.mark.parametrize(("labels", "told"), [(["0", "1"], "✗ 1 (wanted 0)"), ([], "1 (wanted 0)")])
def test_classes_that_are_called_by_numbers_are_right_or_wrong_and_numbers_near_or_far(
    make_run: Any, labels: list[str], told: str
) -> None:
    worker = make_run()
    worker.begin(labels=labels)
    worker.events.write("sample", split="validation", step=1, number=0, prompt="charged twice", wanted="0", answer="1")
    assert views_samples.samples(worker.run.state(), 80).plain.startswith(f"{told}  ")


def test_answers_while_a_model_learns_stand_beside_those_that_are_older(worker: Any) -> None:
    for number in (0, 1):
        worker.events.write("sample", split="before", step=0, number=number, prompt=f"q{number}", wanted="w", answer="old")
    assert views_samples.title(worker.run.state()) == "samples before training"
    worker.steps(1, 20)
    worker.events.write("sample", split="learning", step=20, number=0, prompt="q0", wanted="w", answer="new", seconds=0.5)
    state = worker.run.state()
    assert views_samples.title(state) == "samples at step 20"
    lines = [" ".join(line.split()) for line in views_samples.samples(state, 60).plain.splitlines()]
    assert lines == ["q0", "now new", "wanted w", "at first old", "q1", "at first old", "wanted w"]
    assert state.sample_seconds == 0.5


async def test_the_log_follows_the_run_from_the_line_on_that_no_longer_fits(runs: Path, worker: Any) -> None:
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "the worker runs" in screen(app)) as pilot:
        worker.evaluate(256)  # as wide as the log is before it has a scroll bar
        for step in range(1, 9):  # one after the other, as a run says them
            worker.events.write("checkpoint", step=step, path="x", bytes=1, seconds=0.1, best=False)
            await wait(pilot, lambda step=step: f"checkpoint at step {step} saved" in screen(app))
            if step == 3:
                await wait(pilot, lambda: re.search(r"│ {11}(loss )?0\.500", screen(app)))
