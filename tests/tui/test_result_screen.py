"""What came out, and what one does with it: compare, copy, try."""

import asyncio
import errno
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.widgets._toast import Toast

from engine.rundir import RunDirectory
from engine.state import RunState
from tests.tui.driving import screen, showing, wait
from tui import views_compare, views_result, views_wrong
from tui.app import LoracleApp
from tui.comparing import Compared, Comparison, compare, differing
from tui.screens.compare import ChooseRuns, CompareScreen
from tui.screens.help import HelpScreen
from tui.screens.result import ResultScreen
from tui.screens.run import RunScreen
from tui.screens.try_it import TryScreen


@pytest.fixture
def done(make_run: Any) -> Callable[..., Any]:
    """A finished run with its report and the answers behind it."""

    def of(name: str = "rows", method: str = "lora", right: int = 50, **report: Any) -> Any:
        worker = make_run(name, method)
        worker.begin(method=method)
        worker.steps(1, 100)
        worker.evaluate(50)
        predicted = [0] * 30 + [1] * 30
        for i in range(60 - right):
            predicted[i] = 1 - predicted[i]
        kept = {"truth": [0] * 30 + [1] * 30, "predicted": predicted, "losses": [0.3] * 60, "weights": None, "score": {}}
        (worker.run.scores / "after.json").write_text(json.dumps(kept))
        worst = [{"row": 7, "text": "the [/] \x1b[31mbattery", "wanted": "a", "said": "b", "loss": 2.5}]
        worker.report(method=method, worst=worst, **report)
        worker.end()
        worker.die()
        return worker.run

    return of


@asynccontextmanager
async def result_of(runs: Path, run: Any, size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[LoracleApp, Any]]:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=size) as pilot:
        app.open_run(run, result=True)
        await wait(
            pilot, lambda: isinstance(app.screen, ResultScreen) and "predicted" in screen(app) and "accuracy" in screen(app)
        )
        yield app, pilot


async def test_the_mouse_over_a_comparison_finds_its_curves_after_another_height(runs: Path, done: Any) -> None:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_compare([done(), done("others")])
        await wait(pilot, lambda: isinstance(app.screen, CompareScreen) and "accuracy" in screen(app))
        await pilot.resize_terminal(80, 26)  # the chart is as large as before
        await wait(pilot, lambda: app.screen.size.height == 26)
        await pilot.hover("#chart", offset=(30, 3))
        await wait(pilot, lambda: re.search(r"step \d+: A 0\.\d+", screen(app)))


async def test_a_result_that_is_opened_again_at_once_is_shown(runs: Path, done: Any) -> None:
    run, app = done(), LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        for moments in range(0, 60, 3):  # a second click may come while the first screen is put together
            app.open_run(run, result=True)
            for _moment in range(moments):
                await asyncio.sleep(0)
        await wait(pilot, lambda: isinstance(app.screen, ResultScreen) and "accuracy" in screen(app))


async def test_a_report_that_is_still_read_is_not_copied(runs: Path, done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, wanted = done(), threading.Event()
    read = RunDirectory.report
    monkeypatch.setattr(RunDirectory, "report", lambda self: wanted.wait(30) and read(self))
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        app.open_run(run, result=True)
        await wait(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.focused is not None)
        await pilot.press("y")
        await wait(pilot, lambda: any("nothing to copy" in note.message for note in app._notifications))
        wanted.set()
        await wait(pilot, lambda: "accuracy" in screen(app))


async def test_the_result_says_what_is_still_wrong_and_what_it_cost(runs: Path, done: Any) -> None:
    sample = {"prompt": "Charged twice?", "before": "", "after": "Refunded."}
    run = done(seconds={"predicted": 2.8, "training": 90.0, "total": 116.0}, samples=[sample])
    (run.path / "facts.json").write_text('{"goal": {"note": "for [/] Ann"}}')
    async with result_of(runs, run) as (app, pilot):
        shown = screen(app)
        assert "accuracy points" in shown  # what the gain is told in
        assert "+35.0 (+25.0 +45.0)" in shown
        assert re.search(r"2\.8 s +2 min !41x", shown)
        assert "! times what was predicted" in shown
        assert re.search(r"2\.0 GB +1\.9 GB", shown)
        assert "6  b mistaken for a" in shown
        await pilot.press("c", "m")
        await wait(pilot, lambda: "row 7 · true a, predicted b" in screen(app))
        assert "the [/] \\x1b[31mbattery" in screen(app)
        assert "before (nothing)" in screen(app)
        await pilot.press("m", "4")
        await wait(pilot, lambda: "Better than before." in screen(app) and "“for [/] Ann”" in screen(app))
        await pilot.press("m", "end")
        await wait(pilot, lambda: "M merges it into its base." in screen(app))


def test_where_there_is_little_room_the_gains_come_before_the_loss() -> None:
    scores = {name: {"reward_accuracy": 0.5, "margin": 0.9, "loss": 0.6} for name in ("before", "after")}
    for roomy in (False, True):
        shown = views_result.scores({"scores": scores}, roomy=roomy).plain
        assert len(shown.splitlines()) == 3, shown
        assert ("loss" in shown) is roomy
    gain = {"accuracy": {"gain": -0.2, "low": -0.3, "high": -0.1}}
    names = ("before", "majority", "probe")
    scores = {name: {"accuracy": 0.5, "loss": 0.5} for name in (*names, "after")}
    report = {"scores": scores, "gains": dict.fromkeys(names, gain)}
    assert len(views_result.scores(report, roomy=False).plain.splitlines()) == 9, "what 80x24 has room for"
    large = {"exact_answer": 0.0, "perplexity": 1_234_567.0}
    assert " 1234567.000" in views_result.scores({"scores": {"before": large}}).plain


def test_joined_emoji_take_as_many_cells_as_every_terminal_gives_them() -> None:
    """Or the frame behind them is shifted."""
    family, thumb = "\U0001f468\u200d\U0001f469", "\U0001f44d\U0001f3fd"
    report = {"worst": [{"row": 1, "wanted": thumb, "said": "b", "text": family}], "labels": [thumb, "b"],
              "scores": {"after": {"confusion": [[1, 2], [0, 1]]}}}  # fmt: skip
    shown = views_wrong.worst(report).plain + views_wrong.confusion(report).plain
    assert "\U0001f468\U0001f469" in shown
    assert not set("\u200d\U0001f3fd") & set(shown)


def test_of_a_pair_the_worst_rows_tell_which_answer_it_prefers() -> None:
    report = {"scores": {"after": {"reward_accuracy": 0.5}}, "worst": [{"row": 1, "wanted": "Yes.", "said": "No.", "text": "t"}]}
    assert "row 1 · chosen: Yes., but it prefers: No." in views_wrong.worst(report).plain


def test_an_empty_answer_is_called_so_among_the_worst_rows() -> None:
    assert "predicted (nothing)" in views_wrong.worst({"worst": [{"row": 1, "wanted": "a", "said": "", "text": "t"}]}).plain


async def test_the_result_of_a_pilots_run_says_what_the_pilot_chose(runs: Path, done: Any) -> None:
    pilot_folder = runs / "20270101-080000-rows-pilot"
    run = RunDirectory(done().path.rename(pilot_folder.with_name("moved")))
    pilot_folder.mkdir()
    (pilot_folder / "group.json").write_text("{}")
    said = ["LoRA leads Full by 0.2000 loss (standard error 0.0500) after 100 steps."]
    report = {"version": 1, "kind": "pilot", "name": pilot_folder.name, "winner_name": "LoRA", "statements": said}
    (pilot_folder / "report.json").write_text(json.dumps(report))
    run = RunDirectory(run.path.rename(pilot_folder / "lora"))
    async with result_of(runs, run) as (app, pilot):
        await pilot.press("4", "m")
        told = ("The pilot chose LoRA.", said[0], f"loracle report {pilot_folder.name}", "Better than before.")
        await wait(pilot, lambda: all(words in " ".join(screen(app).split()) for words in told))


async def test_a_note_leaves_the_line_of_messages_in_sight(runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        app.notify("Saved.", timeout=60)
        await wait(pilot, lambda: any(toast.region for toast in app.screen.query(Toast)))
        assert app.screen.query_one(Toast).region.bottom <= 22


async def test_what_was_trained_whole_is_not_merged_and_the_app_says_why(runs: Path, done: Any) -> None:
    run = done(method="full")
    run.model.mkdir(exist_ok=True)
    async with result_of(runs, run, (120, 40)) as (app, pilot):
        await pilot.press("M")
        await wait(pilot, lambda: any("there is nothing to merge" in note.message for note in app._notifications))
    assert not (run.path / "merged").exists()


async def test_a_merge_asks_where_to_before_it_replaces_and_before_the_app_is_left(
    runs: Path, done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    merges: list[tuple[Path, bool]] = []
    go_on = threading.Event()

    def merge(run: Any, to: Path, told: Callable[[str], None], *, replace: bool) -> dict[str, Any]:
        merges.append((to, replace))
        told("write")
        assert go_on.wait(30)
        return {"path": str(to), "bytes": 10**6, "dtype": "float32", "difference": None}

    monkeypatch.setattr("engine.merging.merge", merge)
    run = done()
    run.model.mkdir()
    async with result_of(runs, run) as (app, pilot):
        await pilot.press("M")
        await wait(pilot, lambda: "A standalone model" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: "Writing the merged model" in screen(app))
        await pilot.press("ctrl+q")
        await wait(pilot, lambda: "is being merged with its base" in screen(app))
        await pilot.press("escape", "M")
        await wait(pilot, lambda: any("one at a time" in note.message for note in app._notifications))
        go_on.set()
        await wait(pilot, lambda: any("Merged:" in note.message for note in app._notifications))

        (run.path / "merged").mkdir()
        await pilot.press("M")
        await wait(pilot, lambda: "this one holds something" in screen(app))
        await pilot.press("escape")
        (run.path / "merged" / "loracle.json").write_text('{"merged": true}')
        await pilot.press("M")
        await wait(pilot, lambda: "An earlier merge is there" in screen(app))
        await pilot.press("right", "enter")
        await wait(pilot, lambda: len(merges) == 2 and app.merges.run is None)
        await pilot.press("4", "m", "end")
        await wait(pilot, lambda: "merged/ beside it holds a model" in screen(app))
    assert merges == [(run.path / "merged", False), (run.path / "merged", True)]


async def test_y_copies_the_pane_shift_y_the_report_and_help_counts_the_panes(runs: Path, done: Any) -> None:
    run = done()
    async with result_of(runs, run) as (app, pilot):
        await pilot.press("2")
        await pilot.pause()
        await pilot.press("y")
        await wait(pilot, lambda: "334 k of 22.7 M parameters" in app.clipboard)
        assert "before" not in app.clipboard
        await pilot.press("Y")
        await wait(pilot, lambda: "b mistaken for a" in app.clipboard and "Better than before." in app.clipboard)
        await pilot.press("question_mark")
        await wait(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("end")
        await wait(pilot, lambda: "1 … 4 " in screen(app))


async def test_runs_are_compared_on_the_rows_they_share(runs: Path, done: Any) -> None:
    done("other", "full", right=40)
    run = done("rows", "lora", right=58)
    async with result_of(runs, run) as (app, pilot):
        await pilot.press("v")
        await wait(pilot, lambda: isinstance(app.screen, ChooseRuns) and "other-full ✓ done" in screen(app))
        row = next(y for y, line in enumerate(screen(app).splitlines()) if "other-full" in line)
        await pilot.click(offset=(10, row))
        await wait(pilot, lambda: re.search(r"● \S*other-full", screen(app)))
        await pilot.press("enter")
        await wait(pilot, lambda: isinstance(app.screen, CompareScreen) and "B against A" in " ".join(screen(app).split()))
        shown = " ".join(screen(app).replace("│", " ").split())
        assert "0.967 (" in shown
        assert re.search(r"B against A: -34\.\d points of macro-F1 \(95% interval -", shown)
        assert "not shown to differ" not in shown
        await pilot.press("4")
        await wait(pilot, lambda: "data.train other.csv" not in screen(app) and "other.csv" in screen(app))
        assert "method" in screen(app)
        assert "epochs" not in screen(app)
        await pilot.press("escape")
        await wait(pilot, lambda: isinstance(app.screen, ResultScreen))


async def test_the_mouse_leaves_a_dialog_and_letters_are_no_keys_while_one_types(runs: Path, worker: Any) -> None:
    app = LoracleApp(runs=runs, attach=worker.run)
    async with showing(app, lambda: "/ search" in screen(app) and "x Stop and save" in screen(app)) as pilot:
        y, line = next((y, line) for y, line in enumerate(screen(app).splitlines()) if "/ search" in line)
        await pilot.click(offset=(line.index("/ search"), y))
        await wait(pilot, lambda: "esc Close search" in screen(app).splitlines()[-1])
        assert "x Stop and save" not in screen(app)
        await pilot.press("escape", "f1")
        await wait(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.click(offset=(40, 12))
        assert isinstance(app.screen, HelpScreen)
        await pilot.click(offset=(0, 12))
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
async def test_runs_on_other_rows_or_with_damaged_scores_get_no_interval(runs: Path, done: Any) -> None:
    first, second = done("a"), done("b")
    kept = json.loads((second.scores / "after.json").read_text())
    (second.scores / "after.json").write_text(json.dumps({**kept, "truth": [1] * 60}))
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(120, 40)) as pilot:
        app.open_compare([first, second])
        await wait(pilot, lambda: "not scored on the same held-out rows" in " ".join(screen(app).split()))
    for damaged in (kept | {"groups": 5}, kept | {name: [] for name in ("truth", "predicted", "losses")}):
        for run in (first, second):
            (run.scores / "after.json").write_text(json.dumps(damaged))
        assert compare([first, second]).why_not == "not_scored"


def test_the_legend_of_a_comparisons_runs_tells_their_seeds_apart(tmp_path: Path) -> None:
    group = tmp_path / "20261130-102402-support-train-compare"
    runs = [Compared(letter, RunDirectory(group / f"lora-{n}"), RunState(), None, {}) for n, letter in enumerate("AB", 1)]
    (group / "lora-1").mkdir(parents=True)
    (group / "group.json").write_text("{}")
    runs[0].state.started = 1.0
    lines = views_compare.legend(Comparison(runs), 38).plain.splitlines()
    assert [line.split()[1].rpartition("/")[2] for line in lines] == ["lora-1", "lora-2"]
    assert max(map(len, lines)) <= 38
    assert len({line.index(line.split()[-1]) for line in lines}) == 1  # the states stand under one another


def test_names_of_settings_are_whole_beside_four_runs(make_run: Any) -> None:
    runs = [Compared(letter, make_run(letter).run, RunState(), None, {}) for letter in "ABCD"]
    made = Comparison(runs, [("data.validation_rows", ["100", "200", "300", "400"]), ("rank", ["8", "16", "32", ""])])
    lines = views_compare.settings(made, 74).plain.splitlines()
    assert lines[1].split() == ["data.validation_rows", "100", "200", "300", "400"]
    assert max(map(len, lines)) <= 74


def test_settings_that_differ_are_written_as_in_the_app(make_run: Any) -> None:
    plan = make_run("a").run.plan()
    data = plan.data.model_copy(update={"columns": {"text": "review", "label": "score"}})
    other = plan.model_copy(update={"data": data, "learning_rate": 5e-5})
    told = dict(differing([plan, other]))
    assert told["data.columns"][1] == "text: review, label: score"
    assert told["learning_rate"][1] == "5e-5"


def test_beside_the_scores_stands_the_linear_probe_that_they_must_beat(make_run: Any) -> None:
    run = make_run("a").run
    fitted = {"scores": {"after": {"macro_f1": 0.35}, "probe": {"macro_f1": 0.764, "accuracy": 0.8}}}
    runs = [Compared("A", run, RunState(), run.plan(), fitted), Compared("B", run, RunState(), None, {})]
    lines = views_compare.results(Comparison(runs), 74).plain.splitlines()
    assert ["linear", "probe", "0.764", "macro-F1", "–"] in [line.split() for line in lines]


def test_the_curves_of_a_comparison_have_a_colour_each_in_every_theme() -> None:
    app = LoracleApp()
    for name in app.available_themes:
        app.theme = name
        colours = app.get_css_variables()
        assert len({colours[style.removeprefix("$")] for style in views_compare.STYLES}) == 4, name


class FakeTrial:
    """Answers without a model."""

    system, tools = "You are [/] Bo.", ["find"]

    def __init__(self, run: object) -> None:
        self.closed = False

    async def start(self, environment: object) -> None:
        assert environment == {}

    async def ask(self, text: str, told: Callable[[str, str], None]) -> dict[str, Any]:
        told("tuned", "so fa")
        both = {"base": {"text": "b", "shares": [["b", 0.51], ["a", 0.49]]}, "tuned": {"text": f"[/] {text}", "shares": []}}
        return {**both, "seconds": 0.2}

    async def close(self) -> None:
        self.closed = True


async def test_where_no_process_can_be_started_nothing_is_tried_and_that_is_said(
    runs: Path, done: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("asyncio.create_subprocess_exec", none)
    monkeypatch.setattr("engine.launch.environment", dict)
    run = done()
    run.model.mkdir()
    async with result_of(runs, run) as (app, pilot):
        await pilot.press("t")
        await wait(pilot, lambda: "No process can be started here" in screen(app))
        assert "Loading" not in screen(app)


async def test_a_text_is_tried_on_both_models(runs: Path, done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.trying.Trial", FakeTrial)
    monkeypatch.setattr("engine.launch.environment", dict)
    run = done()
    run.model.mkdir()
    async with result_of(runs, run) as (app, pilot):
        await pilot.press("t")
        await wait(pilot, lambda: isinstance(app.screen, TryScreen) and "Ready" in screen(app))
        assert "as your rows ask: system message “You are [/] Bo.”, tools find" in " ".join(screen(app).split())
        await pilot.press(*"hi there", "enter")
        await wait(pilot, lambda: "[/] hi there" in screen(app) and "51%" in screen(app))
        await pilot.press("up")
        await wait(pilot, lambda: app.screen.query_one("#text").value == "hi there")  # type: ignore[attr-defined]
        await pilot.press("f1")
        await wait(pilot, lambda: "The text typed before" in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: isinstance(app.screen, TryScreen))
        trial = app.screen._trial  # type: ignore[attr-defined]
        await pilot.press("escape")
        await wait(pilot, lambda: trial.closed and isinstance(app.screen, ResultScreen))
        await pilot.press("w")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))
