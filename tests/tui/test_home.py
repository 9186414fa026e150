"""The list of runs: deleting and bringing back, marking and comparing, attaching."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.css.query import NoMatches
from textual.widgets import DataTable

from engine import trash
from engine.events import EventTail
from engine.rundir import RunDirectory
from recommender.errors import InputError
from tests.tui.driving import screen, showing, wait
from tui.app import LoracleApp
from tui.draft import Draft
from tui.run_rows import RunList, best_score
from tui.screens.base import LoracleScreen
from tui.screens.compare import CompareScreen
from tui.screens.help import HelpScreen
from tui.screens.home import HomeScreen
from tui.screens.run import RunScreen


def ended(make_run: Any, name: str, accuracy: float = 0.8) -> RunDirectory:
    worker = make_run(name)
    worker.begin()
    worker.steps(1, 10)
    worker.evaluate(10, accuracy=accuracy)
    worker.end("stopped", 5, cause="stopped on request")
    worker.die()
    found: RunDirectory = worker.run
    return found


async def test_a_deleted_run_comes_back_with_u_and_is_gone_once_the_app_is_left(runs: Path, make_run: Any) -> None:
    run = ended(make_run, "first")
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "first-lora" in screen(app) and "stopped" in screen(app)) as pilot:
        await pilot.press("delete")
        await wait(pilot, lambda: "u restores it" in screen(app))
        assert not run.path.exists()
        await pilot.press("u")
        await wait(pilot, lambda: run.path.exists() and "stopped" in screen(app))
        await pilot.press("delete")
        await wait(pilot, lambda: "u restores it" in screen(app))
    app.empty_trash()
    assert list(runs.iterdir()) == []


def test_an_app_that_is_left_while_the_trash_is_emptied_empties_the_rest(
    runs: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = LoracleApp(runs=runs)
    app.discarded = [trash.discard(ended(make_run, name)) for name in ("first", "second")]
    gone: list[str] = []

    def slowly(things: list[trash.Discarded]) -> None:
        app.empty_trash()  # in this moment the app is left, before the first is gone
        gone.extend(thing.name.split("-")[-2] for thing in things)

    monkeypatch.setattr(trash, "empty", slowly)
    app.empty_trash()
    assert gone == ["second", "first"]


async def test_whoever_needs_the_disk_empties_the_trash_at_once(runs: Path, make_run: Any) -> None:
    """The next run would be refused for want of the space that deleted ones still take."""
    ended(make_run, "first")
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "first-lora" in screen(app) and "stopped" in screen(app)) as pilot:
        await pilot.press("delete")
        await wait(pilot, lambda: "E frees its disk" in screen(app))
        await pilot.press("E")
        await wait(pilot, lambda: "Nothing brings it back" in screen(app))
        assert list(runs.iterdir()), "after a question only"
        await pilot.press("right", "enter")
        await wait(pilot, lambda: not list(runs.iterdir()) and "in the trash" not in screen(app))


async def test_a_first_run_is_listed_though_somebody_asked_for_the_last_of_none(
    runs: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.screens.home.REFRESH_SECONDS", 0.1)
    app = LoracleApp(runs=runs, draft=Draft())
    async with showing(app, lambda: "What is the model to learn" in screen(app)) as pilot:
        await pilot.press("escape")
        await wait(pilot, lambda: "No run yet" in screen(app))
        await pilot.press("G")
        ended(make_run, "first")
        await wait(pilot, lambda: "first-lora" in screen(app))


async def test_set_up_covers_nothing_that_was_opened_before_it(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = threading.Event()
    monkeypatch.setattr(RunList, "rows", lambda *given: read.wait(30) and [])
    app = LoracleApp(runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        home = app.screen
        assert isinstance(home, HomeScreen)
        await pilot.press("f1")
        await wait(pilot, lambda: isinstance(app.screen, HelpScreen))
        home._take([])  # a look that ended in the moment of the key
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape", "n")
        await wait(pilot, lambda: "What is the model to learn" in screen(app))
        read.set()
        await pilot.press("escape")
        await wait(pilot, lambda: "No run yet" in screen(app))
        await pilot.pause(0.1)
        assert app.screen_stack == [home]


async def test_a_mistake_behind_a_screen_that_was_left_does_not_make_the_app_deaf(runs: Path) -> None:
    class Left(LoracleScreen):
        def action_leave(self) -> None:  # in the app's own messages, as every key
            self.app.pop_screen()
            self.query_one("#nothing")

    async def driven() -> None:
        app = LoracleApp(runs=runs, draft=Draft())
        async with app.run_test(size=(80, 24)) as pilot:
            await app.push_screen(Left())
            app.call_later(app.run_action, "leave", app.screen)
            await pilot.pause(0.1)

    with pytest.raises(NoMatches):  # Textual ends the app: swallowed, no key would work any more
        await driven()


async def test_a_key_before_its_screen_stands_is_done_once_it_does(runs: Path, make_run: Any) -> None:
    ended(make_run, "first")
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "first-lora" in screen(app)) as pilot:
        app.open_setup()
        for _time in range(2):  # esc, twice
            await app.run_action("back", app.screen)
        await wait(pilot, lambda: len(app.screen_stack) == 1 and "first-lora" in screen(app))


async def test_a_run_that_goes_on_is_not_deleted(runs: Path, worker: Any) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "running" in screen(app)) as pilot:
        await pilot.press("delete")
        await wait(pilot, lambda: any("stop it first" in note.message for note in app._notifications))
        assert worker.run.path.exists()
        await pilot.press("a")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen))


async def test_a_run_that_is_being_merged_is_not_deleted(runs: Path, make_run: Any) -> None:
    run = ended(make_run, "first")
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "first-lora" in screen(app) and "stopped" in screen(app)) as pilot:
        app.merges.run = run
        await pilot.press("delete")
        await wait(pilot, lambda: any("is being merged" in note.message for note in app._notifications))
        app.merges.run = None
        assert run.path.exists()


async def test_marked_runs_are_compared(runs: Path, make_run: Any) -> None:
    ended(make_run, "first")
    ended(make_run, "second", accuracy=0.9)
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "second-lora" in screen(app) and "F1 ~0.890" in screen(app)) as pilot:
        await pilot.press("space", "j", "space")
        await wait(pilot, lambda: "2 runs marked" in screen(app))
        await pilot.press("v")
        await wait(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("4")
        await wait(pilot, lambda: "data.train" in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: "2 runs marked" in screen(app))


async def test_the_list_answers_while_logs_are_read(runs: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [ended(make_run, f"r{n:02}") for n in range(30)]
    last, read_on, poll = made[0].path, threading.Event(), EventTail.poll

    def slow(tail: EventTail, *given: Any) -> Any:
        if tail._path != made[-1].events:
            assert read_on.wait(60)
        return poll(tail, *given)

    monkeypatch.setattr(EventTail, "poll", slow)
    monkeypatch.setattr("tui.run_rows.TOLD_EVERY", 0.0)

    def line(app: LoracleApp, name: str) -> str:
        return next((line for line in screen(app).splitlines() if name in line and " ago" in line), "")

    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "stopped" in line(app, "r29-lora") and "…" in line(app, "r28-lora")) as pilot:
        home = app.screen
        assert isinstance(home, HomeScreen)
        await pilot.press("G", "delete")
        await wait(pilot, lambda: not last.exists() and not line(app, "r00-lora") and "restores it" in screen(app))
        await pilot.press("k", "k")
        table = home.query_one(DataTable)
        await wait(pilot, lambda: table.scroll_y > 0 and "…" in line(app, "r03-lora"))
        where = table.cursor_row, table.scroll_y
        await pilot.press("n")
        await wait(pilot, lambda: "What is the model to learn?" in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: app.screen is home)
        read_on.set()
        told = r"r03-lora +■ stopped +LoRA +macro-F1 ~0\.790 +\S+ \S+ ago"
        await wait(pilot, lambda: re.search(told, line(app, "r03-lora")) is not None)
        assert (table.cursor_row, table.scroll_y) == where
        assert home.copyable() == (str(made[3].path), str(made[3].path))


def test_evaluations_that_a_resumed_run_does_again_do_not_count(runs: Path, worker: Any) -> None:
    for step, accuracy in ((5, 0.8), (10, 0.9)):
        worker.steps(step - 4, step)
        worker.evaluate(step, accuracy=accuracy)
    worker.begin(resumed_from=5)
    worker.steps(6, 10)
    worker.evaluate(10, accuracy=0.7)
    assert RunList().rows(runs)[0].score == best_score(worker.run.state(), "macro_f1")[0] == pytest.approx(0.79)


def test_the_list_reads_a_log_once_and_then_only_what_grew(runs: Path, worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.steps(1, 50)
    listed = RunList()
    assert listed.rows(runs)[0].score is None
    read: list[int] = []
    poll = EventTail.poll

    def counted(self: Any, *given: Any) -> Any:
        found = poll(self, *given)
        read.append(len(found))
        return found

    monkeypatch.setattr(EventTail, "poll", counted)
    worker.evaluate(50)
    row = listed.rows(runs)[0]
    assert row.score == pytest.approx(0.79)
    assert row.status == "running"
    assert sum(read) == 1


def test_what_lies_in_the_trash_for_long_is_deleted_and_what_is_new_is_kept(runs: Path, make_run: Any) -> None:
    import os

    old, new = (trash.discard(ended(make_run, name)) for name in ("old", "new"))
    os.utime(old.now, (1, 1))
    trash.forget_old(runs)
    assert not old.now.exists()
    assert new.now.exists()
    new.was.mkdir()
    with pytest.raises(InputError, match="in the way"):
        trash.restore(new)
    new.was.rmdir()
    new.now.rename(runs / "elsewhere")
    with pytest.raises(InputError, match="is gone"):
        trash.restore(new)


async def test_the_line_of_keys_is_clicked_and_never_cut_within_a_word(runs: Path, make_run: Any) -> None:
    make_run().begin()
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "n New run" in screen(app).splitlines()[-1]) as pilot:
        for width in (70, 55, 40):
            await pilot.resize_terminal(width, 24)
            await pilot.pause()
            line = screen(app).splitlines()[-1].rstrip()
            assert re.fullmatch(r"( (enter Open|F1 Help|n New run|v Compare|del Delete|\^q Quit) )+ *\^p Commands", line), line
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        line = screen(app).splitlines()[-1]
        await pilot.click("KeyLine", offset=(line.index("New run"), 0))
        await wait(pilot, lambda: "What is the model to learn?" in screen(app))


async def test_where_there_are_no_runs_nothing_is_offered_for_them(runs: Path) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "What is the model to learn?" in screen(app)) as pilot:
        await pilot.press("escape")
        await wait(pilot, lambda: "No run yet" in screen(app))
        line = screen(app).splitlines()[-1]
        assert "New run" in line
        assert "Delete" not in line
        assert "Compare" not in line


async def test_who_leaves_from_home_is_told_what_goes_on(runs: Path, worker: Any) -> None:
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: isinstance(app.screen, HomeScreen) and app.screen.live_run is not None) as pilot:
        await pilot.press("ctrl+q")
    assert app.left_running is not None
    assert app.left_running.path == worker.run.path


async def test_a_screenshot_is_saved_where_there_is_no_folder_for_downloads(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(home / "none"))
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: "What is the model to learn?" in screen(app)) as pilot:
        await pilot.press("f8")
        await wait(pilot, lambda: any("the model to learn" in f.read_text().replace("&#160;", " ") for f in home.glob("*.svg")))


async def test_only_runs_with_the_words_that_were_typed_are_listed_and_enter_opens_one(runs: Path, make_run: Any) -> None:
    for name in ("reviews", "tickets"):
        ended(make_run, name)
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: screen(app).count("stopped") == 2) as pilot:
        await pilot.press("slash", *"tick")
        await wait(pilot, lambda: "reviews" not in screen(app) and "tickets-lora" in screen(app))
        assert "esc shows all runs" in screen(app)  # not keys that would be typed
        await pilot.press("space", *"done")
        await wait(pilot, lambda: "No run has all of these words." in screen(app))
        await pilot.press("escape")
        await wait(pilot, lambda: screen(app).count("stopped") == 2)
        await pilot.press("slash", *"tick", "tab", "delete")
        await wait(pilot, lambda: "reviews-lora" in screen(app) and "u restores it" in screen(app))
        await pilot.press("u")  # typed into the line, it would restore nothing
        await wait(pilot, lambda: screen(app).count("stopped") == 2)
        await pilot.press("delete", "slash", *"done")
        await wait(pilot, lambda: "No run has all of these words." in screen(app))
        await pilot.press("escape", "u")
        await wait(pilot, lambda: screen(app).count("stopped") == 2)
        await pilot.press("slash", *"STOPPED LORA", "down", "enter")
        await wait(pilot, lambda: isinstance(app.screen, RunScreen) and "reviews-lora" in screen(app))
