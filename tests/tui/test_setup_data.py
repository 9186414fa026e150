"""Set-up, data: what was found is put right with a key, samples, files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList

from engine.inspect import DataInspection
from recommender.errors import InputError
from tests.tui.driving import ready, screen, set_up, showing, wait
from tui.app import LoracleApp
from tui.draft import Draft
from tui.screens.files import FilesScreen
from tui.screens.recommendation import RecommendationScreen
from tui.screens.setup import SetupScreen
from tui.screens.step_data import DataStep, _is_of
from tui.views_setup import columns_for, findings


@pytest.mark.usefixtures("known")
async def test_a_sample_of_the_held_out_rows_is_asked_for_and_goes_into_the_command(
    rows: Path, runs: Path, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    asked: list[int | None] = []

    def inspect(data: str, **options: Any) -> DataInspection:
        asked.append(options["eval_rows"])
        return make_data(eval_rows=options["eval_rows"] or 120 if options["eval"] else None)

    monkeypatch.setattr("engine.inspect.inspect_data", inspect)
    async with set_up(rows, runs) as (app, pilot):
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        setup.action_go("limits")
        await wait(pilot, lambda: "No held-out file is named" in screen(app))
        setup.field("held-out").fill(str(rows))
        await wait(pilot, lambda: "A sample of the 120 held-out rows." in screen(app))
        await pilot.press("tab", "tab", *"050")
        await wait(pilot, lambda: asked[-1] == 50 and ready(app))
        assert app.screen.query_one("#score").value == "50", "0 would mean all of them"  # type: ignore[attr-defined]
        assert setup.draft.eval_rows == 50
        assert "--eval-rows 50" in setup.draft.command()


@pytest.mark.usefixtures("known")
async def test_columns_and_task_are_changed_where_they_are_shown(
    rows: Path, runs: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, object, object]] = []

    def data(name: str, **options: Any) -> Any:
        asked.append((options["text_column"], options["label_column"], options["task"]))
        return make_data(label_column=options["label_column"] or "label")

    monkeypatch.setattr("engine.inspect.inspect_data", data)
    async with set_up(rows, runs) as (app, pilot):
        app.screen.query_one("#found").focus()
        await pilot.press("c")
        await wait(pilot, lambda: "label: label" in screen(app))
        await pilot.press("j", "enter")
        await wait(pilot, lambda: "which column?" in screen(app))
        await pilot.press("j", "j", "enter")
        await wait(pilot, lambda: ("text", "id", None) in asked and ready(app))
        await pilot.press("t")
        await wait(pilot, lambda: "What are the rows for?" in screen(app))
        await pilot.press("j", "j", "enter")
        await wait(pilot, lambda: (None, None, "regression") in asked and ready(app))
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        assert setup.draft.task == "regression"


@pytest.mark.usefixtures("known")
async def test_two_columns_of_text_can_be_read_as_one_and_one_be_named_whose_rows_stay_together(
    rows: Path, runs: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    groups: list[str | None] = []
    said: set[str] = set()

    def data(name: str, **options: Any) -> Any:
        asked.append(options["text_column"])
        groups.append(options["columns"].get("group"))
        said.update(options["columns"])
        roles = {"text": "text", "label 1": "label", "label 2": "id"} | ({"group": "id"} if groups[-1] else {})
        return make_data(suspicious_columns=[{"column": "id", "why": "text"}], columns=roles)

    monkeypatch.setattr("engine.inspect.inspect_data", data)
    async with set_up(rows, runs) as (app, pilot):
        app.screen.query_one("#found").focus()
        await pilot.press("c", "enter")
        await wait(pilot, lambda: "text + id, a line each" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: asked[-1] == "text+id")
        odd = make_data(suspicious_columns=[{"column": "n+m", "why": "text"}])
        columns = [name for name, _ in columns_for("text", dataclasses.replace(odd, columns=(*odd.columns, "n+m")))]
        assert columns == [*odd.columns, "n+m"], "of a name with the sign nobody knew which columns are meant"
        await wait(pilot, lambda: ready(app))
        for pick, named in (("home", odd.columns[0]), ("end", None)):  # the last one takes it back
            await pilot.press("c", "end", "enter")
            await wait(pilot, lambda: "group: which column?" in screen(app))
            await pilot.press(pick, "enter")
            await wait(pilot, lambda named=named: groups[-1] == named and ready(app))
    assert said <= {"text", "group"}, "nobody can say what `label 1` is"


@pytest.mark.usefixtures("known")
async def test_rows_that_are_cut_are_read_to_their_end_with_one_key(
    rows: Path, runs: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"tokens_p50": 300, "tokens_p95": 400, "tokens_p99": 560, "tokens_max": 600}
    cut = [{"length": 400, "rows_cut": 60, "tokens_kept": 250_000}]
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **options: make_data(**long, truncation=cut))
    async with set_up(rows, runs) as (app, pilot):
        app.screen.query_one("#found").focus()
        await wait(pilot, lambda: "l reads" in screen(app))
        await pilot.press("l", "ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice is not None)
        assert isinstance(app.screen, RecommendationScreen)
        assert app.screen.advice is not None
        assert {m: app.screen.advice.candidate(m).settings.max_length for m in ("full", "lora")} == {"full": 512, "lora": 512}


def test_what_was_found_hangs_from_its_marks(make_data: Callable[..., DataInspection]) -> None:
    for width in (30, 50, 75):
        shown = findings(make_data(conflict_share=0.04), None, None, width).plain.splitlines()
        assert {line[:2] for line in shown} == {"✓ ", "! ", "  "}
        assert max(map(len, shown)) <= width


@pytest.mark.usefixtures("known")
async def test_rows_that_contradict_others_are_left_out_with_one_key(
    rows: Path, runs: Path, make_data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def data(name: str, **options: Any) -> Any:
        found = make_data(conflict_share=0.0 if options["drop_conflicts"] else 0.04)
        return dataclasses.replace(found, drop_conflicts=options["drop_conflicts"])

    monkeypatch.setattr("engine.inspect.inspect_data", data)
    async with set_up(rows, runs) as (app, pilot):
        app.screen.query_one("#found").focus()
        await wait(pilot, lambda: "4% of the rows have a text that also" in screen(app))
        assert "  x leaves them out " in screen(app), "below it, in one piece: the two do not fit into 80 cells"
        await pilot.press("x")
        await wait(pilot, lambda: "rows that contradict others are left out" in screen(app))
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        assert "--drop-conflicts" in setup.draft.arguments()
        await pilot.press("x")
        await wait(pilot, lambda: "4% of the rows have a text that also" in screen(app))


@pytest.mark.parametrize(
    ("message", "held_out", "data", "told"),
    [
        ("rows.csv: there is no such file.", ".", "rows.csv", False),
        ("rows.csv: there is no such file.", "csv", "rows.csv", False),
        ("test.csv: row 3: labels that training has never seen.", "/a/test.csv", "/a/train.csv", True),
        ("/a/test.csv is a folder.", "/a/test.csv", "/a/train.csv", True),
        ("b/rows.csv: there is no such file.", "./b//rows.csv", "rows.csv", True),
        ("rows.csv: row 3: is broken.", "/b/rows.csv", "/a/rows.csv", False),
        ("rows.csv: there is no such file.", "", "rows.csv", False),
    ],
)
def test_what_is_wrong_is_told_at_the_file_it_is_about(message: str, held_out: str, data: str, told: bool) -> None:
    assert _is_of(message, held_out, data) is told


@pytest.mark.usefixtures("known")
async def test_what_was_wrong_with_held_out_rows_goes_with_the_question(
    rows: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(data: str, **options: Any) -> DataInspection:
        raise InputError(f"{options['eval'] or data}: there is no such file.")

    monkeypatch.setattr("engine.inspect.inspect_data", refuse)
    app = LoracleApp(draft=Draft(model="demo", data=str(rows), held_out="gone.csv"), runs=runs)
    async with showing(app, lambda: "✗ gone.csv: there is no such file." in screen(app)) as pilot:
        app.screen.field("data").fill("")  # type: ignore[attr-defined]
        await wait(pilot, lambda: "gone.csv: there" not in screen(app))


@pytest.mark.usefixtures("known")
async def test_enter_in_a_field_that_is_refused_stays_there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who types the name again types it where it was wrong, and not into the field below."""

    def refuse(data: str, **options: Any) -> DataInspection:
        raise InputError(f"{data}: there is no such file.")

    monkeypatch.setattr("engine.inspect.inspect_data", refuse)
    app = LoracleApp(draft=Draft(model="demo"), runs=runs)
    async with showing(app, lambda: isinstance(app.screen, SetupScreen)) as pilot:
        app.screen.query_one("#data").focus()
        await pilot.press(*"gone", "enter")
        await wait(pilot, lambda: "✗ gone: there is no such file." in screen(app))
        await pilot.press("2")
        await wait(pilot, lambda: app.screen.field("data").value == "gone2")  # type: ignore[attr-defined]


@pytest.mark.usefixtures("known")
async def test_files_are_completed_and_picked_by_keyboard(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.step_data.PAUSE", 0.05)
    folder = tmp_path / "a folder with a name so long that its path takes more than one line of the dialog" / "many"
    (folder / "inner").mkdir(parents=True)
    (folder / "train-one.csv").write_text("text,label\na,b\n")
    (folder / "train-two.csv").write_text("text,label\na,b\n")
    (folder / "notes.bin").write_bytes(b"x")
    (folder / "bad\x1b]0;title\x07.csv").write_text("text,label\na,b\n")
    app = LoracleApp(draft=Draft(model="demo"), runs=runs)
    async with showing(app, lambda: isinstance(app.screen, SetupScreen)) as pilot:
        setup = app.screen
        assert isinstance(setup, SetupScreen)
        setup.query_one("#data").focus()
        setup.field("data").fill(f"{folder}/tr")
        await pilot.press("tab")
        await wait(pilot, lambda: setup.field("data").value == f"{folder}/train-")
        await wait(pilot, lambda: "train-one.csv · train-two.csv" in screen(app))
        await pilot.pause(0.3)  # until that name was looked for, and nothing found
        assert "train-one.csv · train-two.csv" in screen(app)
        await pilot.press("ctrl+o")
        await wait(pilot, lambda: "train-two.csv" in screen(app) and "folder above" in screen(app))
        assert "notes.bin" not in screen(app)
        assert "title" not in screen(app)
        files = app.screen.query_one("#files", OptionList)
        late = OptionList.OptionSelected(files, files.get_option_at_index(2), 2)  # train-one.csv
        await pilot.press("backspace")
        await wait(pilot, lambda: "many/" in screen(app) and "folder above" in screen(app))
        files.post_message(late)  # it was chosen while the folder above was still read
        await wait(pilot, lambda: setup.field("data").value == str(folder / "train-one.csv"))


async def test_from_the_folder_above_enter_leads_back(tmp_path: Path, runs: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    app = LoracleApp(draft=Draft(), runs=runs)
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(FilesScreen(tmp_path / "folder" / "second", folders=False))
        await wait(pilot, lambda: "second" in screen(app) and "../" in screen(app))
        await pilot.press("backspace")
        await wait(pilot, lambda: "third/" in screen(app))
        await pilot.press("enter")
        await wait(pilot, lambda: "third/" not in screen(app) and "second" in screen(app))


@pytest.mark.usefixtures("known")
async def test_a_class_and_its_count_stay_on_one_line(
    rows: Path, runs: Path, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    labels = tuple(f"card {'x' * n}" for n in range(3, 17))
    monkeypatch.setattr("engine.inspect.inspect_data", lambda *_, **__: make_data(labels, 100))
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with showing(app, lambda: ready(app) and "2 more" in screen(app)) as pilot:
        for width in (80, 91):
            await pilot.resize_terminal(width, 40)
            await wait(pilot, lambda: all(f"{label}: 100" in screen(app) for label in labels[:12]))


@pytest.mark.usefixtures("known")
async def test_a_plan_is_of_the_rows_as_they_are_and_not_as_they_were(
    rows: Path, runs: Path, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does to a file what the plan advises, and comes back, was told the same again."""
    monkeypatch.setattr("engine.inspect.inspect_data", lambda data, **_: make_data(rows=len(Path(data).read_text().splitlines())))
    async with set_up(rows, runs) as (app, pilot):
        before = app.screen.query_one(DataStep).known
        rows.write_text(rows.read_text() * 2)
        await pilot.press("ctrl+r")
        await wait(pilot, lambda: isinstance(app.screen, RecommendationScreen) and app.screen.advice)
        assert before is not None
        assert app.screen.advice.data.facts.rows == 2 * (before.facts.rows or 0)  # type: ignore[attr-defined]
        rows.write_text(rows.read_text() * 2)
        await pilot.press("escape")
        await wait(pilot, lambda: ready(app) and f"{4 * (before.facts.rows or 0)} rows" in screen(app))


@pytest.mark.usefixtures("known")
async def test_who_puts_right_elsewhere_what_was_wrong_with_the_rows_is_not_taken_away_from_there(
    rows: Path, runs: Path, make_data: Callable[..., DataInspection], monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(data: str, **options: Any) -> DataInspection:
        if options["train_rows"] is None:
            raise InputError("too large for this test; take fewer rows.")
        return make_data()

    monkeypatch.setattr("engine.inspect.inspect_data", inspect)
    app = LoracleApp(draft=Draft(model="demo", data=str(rows)), runs=runs)
    async with showing(app, lambda: "too large for this test" in screen(app)) as pilot:
        app.screen.query_one("#held-out").focus()
        await pilot.press("enter")
        await wait(pilot, lambda: "too large for this test" in screen(app))
        app.screen.action_go("limits")  # type: ignore[attr-defined]
        field = app.screen.query_one("#take")
        field.focus()
        await pilot.press("5", "0")
        await wait(pilot, lambda: ready(app))
        await pilot.pause(0.2)
        assert app.focused is field
