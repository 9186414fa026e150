"""Set-up: which model, which data. Facts appear as soon as a field is valid."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import DescendantBlur
from textual.widgets import Button, Input, Select, Static

from engine.text import one_line
from recommender.errors import LoracleError
from tui import views_setup as views
from tui import work_plan as engine_side
from tui.background import in_thread
from tui.draft import Draft
from tui.progress import amount
from tui.screens.base import LoracleScreen
from tui.widgets.field import Field
from tui.widgets.path_input import PathInput

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection

Question = tuple[str, str | None, str | None, str | None, str | None]
"""Data, held-out file, text column, label column, folder of the tokenizer."""
PAUSE = 0.35
"""Seconds without a key before a field is looked at."""
LOOKING = "looking…"
MODEL_HINT = "A folder with config.json, a hub id such as bert-base-uncased, or demo."
DATA_HINT = "csv, tsv, jsonl, json or parquet with a text and a label column; tab completes, ctrl+o lists files."
HELD_OUT_HINT = "Optional: a file to score before and after. Without it some rows are put aside for that."


class SetupScreen(LoracleScreen):
    """Model, data, held-out file; then on to the recommendation."""

    ABOUT = "Choose a model and a labelled file. tab completes a path, ctrl+o opens the file list, enter goes on."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "recommend", "Recommend", id="recommend", tooltip="Compare full, LoRA and QLoRA"),
        Binding("ctrl+o", "browse", "Browse files", id="browse", tooltip="Pick the file of this field from a list"),
    ]

    def __init__(self, model: str = "", data: str = "") -> None:
        super().__init__()
        self._start = {"model": model, "data": data}
        self.model: ModelInspection | None = None
        self.data: DataInspection | None = None
        self._asked: dict[str, object] = {}
        """What was asked last about model and data; the same question is not asked twice."""
        self._columns: tuple[str | None, str | None] = (None, None)
        """Columns the person chose, for the file `_columns_of`."""
        self._columns_of = ""
        self._reading: object = None
        """The reading that is going on, if any."""
        self._kept = Draft()
        """What was said on the screen that follows; kept for when the person comes back."""

    def body(self) -> ComposeResult:
        model, data = self._start["model"], self._start["data"]
        with VerticalScroll(id="form", can_focus=False):
            yield Field("Model", model, name="model", files=False, placeholder="folder, hub id or demo", hint=MODEL_HINT)
            yield Field("Training data", data, name="data", files=True, placeholder="path to a file", hint=DATA_HINT)
            with Horizontal(id="columns"):
                yield Static("Columns", classes="label", markup=False)
                yield Static("text", classes="short", markup=False)
                yield Select[str]([], id="text", compact=True, prompt="text column")
                yield Static("label", classes="short", markup=False)
                yield Select[str]([], id="label", compact=True, prompt="label column")
            yield Field("Held-out data", "", name="held-out", files=True, placeholder="optional", hint=HELD_OUT_HINT)
            with VerticalScroll(id="preview"):
                yield Static(id="rows", markup=False)
        with Horizontal(id="next"):
            yield Static(id="ready", markup=False)
            yield Button("Recommend", id="go", variant="primary", compact=True, disabled=True)

    def on_mount(self) -> None:
        self.machine_known()
        self.query_one("#preview").border_title = "first rows"
        first = "data" if self._start["model"] and not self._start["data"] else "model"
        self.query_one(f"#{first}", PathInput).focus()
        self._tell_ready()

    def machine_known(self) -> None:
        """The machine was looked at."""
        self.headline(Content.assemble(("Loracle", "bold"), " · new run"))

    def field(self, name: str) -> Field:
        """The field of that name."""
        return self.query_one(f"#{name}-field", Field)

    @on(Input.Changed, "#model")
    def _model_typed(self) -> None:
        self._look_at_model(final=False)

    @on(Input.Changed, "#data")
    @on(Input.Changed, "#held-out")
    def _data_typed(self) -> None:
        self._look_at_data(final=False)

    @on(DescendantBlur)
    def _left(self, event: DescendantBlur) -> None:
        if event.widget.id == "model":
            self._look_at_model(final=True)
        elif event.widget.id in ("data", "held-out"):
            self._look_at_data(final=True)

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        """Enter: look now, and go to what is still missing, or on."""
        if event.input.id == "model":
            self._look_at_model(final=True, again=True)
        else:
            self._look_at_data(final=True, again=True)
        if self.model is not None and self.data is not None and event.input.id != "model":
            self.action_recommend()
        elif event.input.id == "model":
            self.query_one("#data").focus()
        elif event.input.id == "data":
            self.query_one("#held-out" if self.field("model").value else "#model").focus()

    @on(PathInput.Alternatives)
    def _alternatives(self, event: PathInput.Alternatives) -> None:
        names = " · ".join(one_line(n, 30) for n in event.names[:12])
        self.field(str(event.field.id)).hint(names + (f" · and {len(event.names) - 12} more" if len(event.names) > 12 else ""))

    @on(Select.Changed)
    def _column_chosen(self, event: Select.Changed) -> None:
        known = self.data.facts if self.data is not None else None
        current = {"text": known.text_column, "label": known.label_column} if known is not None else {}
        if event.select.id in current and event.value not in (current[event.select.id], Select.NULL):
            text, label = (self.query_one(f"#{n}", Select).value for n in ("text", "label"))
            self._columns = (str(text), str(label))
            self._look_at_data(final=True)

    def _look_at_model(self, *, final: bool, again: bool = False) -> None:
        """Ask about the model, unless that very question was asked already."""
        name = self.field("model").value
        if self._asked.get("model") == name and not (again and self.model is None):
            return
        self._asked.pop("model", None)
        self.model = None
        self._tell_ready()
        self._ask_model(name, final)

    @work(exclusive=True, group="model", exit_on_error=False)
    async def _ask_model(self, name: str, final: bool) -> None:
        """Exclusive: a newer question cancels this one, so a late answer never overwrites a newer one."""
        field = self.field("model")
        if not name:
            field.hint()
            return
        if not final:
            await asyncio.sleep(PAUSE)
            if not await in_thread(_is_local_model, name):
                field.hint("enter looks for this model on the hub")
                return
        self._asked["model"] = name
        field.hint(LOOKING)
        try:
            self.model = await in_thread(engine_side.inspect_model, name)
        except LoracleError as error:
            field.wrong(error.message)
            return
        field.note(views.model_facts(self.model))
        self._tell_ready()
        self._look_at_data(final=False)  # tokens are counted by this model's tokenizer

    def _look_at_data(self, *, final: bool, again: bool = False) -> None:
        """Ask about the data, unless that very question was asked already."""
        name, held_out = self.field("data").value, self.field("held-out").value
        if name != self._columns_of:
            self._columns, self._columns_of = (None, None), name
        question = (name, held_out or None, *self._columns, self.model.path if self.model is not None else None)
        if self._asked.get("data") == question and not (again and self.data is None):
            return
        self._asked.pop("data", None)
        self.data = None
        self._tell_ready()
        self._ask_data(question, final)

    @work(exclusive=True, group="data", exit_on_error=False)
    async def _ask_data(self, question: Question, final: bool) -> None:
        field, held_out_field = self.field("data"), self.field("held-out")
        name, held_out = question[:2]
        if not name:
            field.hint()
            return
        if not final:
            await asyncio.sleep(PAUSE)
            if not await in_thread(_are_files, name, held_out or ""):
                return
        self._asked["data"] = question
        field.hint(LOOKING)
        self._reading = reading = engine_side.cancel_handle()
        loop = asyncio.get_running_loop()

        def tell(done: int, total: int, unit: str) -> None:  # called in the thread that waits for the child
            loop.call_soon_threadsafe(self._tell_progress, reading, amount(done, total, unit))

        try:
            data = await in_thread(engine_side.inspect_data, self._draft(), question[4], progress=tell, cancel=reading)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        except LoracleError as error:
            if held_out and held_out != name and held_out in error.message:
                held_out_field.wrong(error.message)
                field.hint("waits for the held-out file")
            else:
                field.wrong(error.message)
            return
        self._reading = None
        self.data = data
        self._show_data(data)

    def _tell_progress(self, reading: object, text: str) -> None:
        """How far reading has come, unless another question was asked since."""
        if reading is self._reading and self.data is None:
            self.field("data").hint(f"{LOOKING} {text}")

    def _show_data(self, data: "DataInspection") -> None:
        self.field("data").note(views.data_facts(data))
        if data.facts.eval_rows is not None:
            self.field("held-out").note(views.held_out_facts(data))
        else:
            self.field("held-out").hint()
        for name, chosen in (("text", data.facts.text_column), ("label", data.facts.label_column)):
            select = self.query_one(f"#{name}", Select)
            with self.prevent(Select.Changed):
                select.set_options([(Content(one_line(c, 40)), c) for c in data.columns])
                if chosen in data.columns:
                    select.value = chosen
        self.query_one("#columns").display = data.facts.text_column is not None and data.facts.label_column is not None
        preview = self.query_one("#preview")
        preview.display = True
        self.query_one("#rows", Static).update(views.preview_lines(data, 300))
        self._tell_ready()

    def _tell_ready(self) -> None:
        missing = [n for n, known in (("a model", self.model), ("data", self.data)) if known is None]
        ready = not missing
        self.query_one("#go", Button).disabled = not ready
        text = "Ready: ctrl+r compares full, LoRA and QLoRA." if ready else f"Still needed: {' and '.join(missing)}."
        self.query_one("#ready", Static).update(Content(text))

    @on(Button.Pressed, "#go")
    def action_recommend(self) -> None:
        """On to the recommendation."""
        if self.model is None or self.data is None:
            self.say("A valid model and a valid data file are needed first.", "warning")
            return
        from tui.screens.recommendation import RecommendationScreen

        self.app.push_screen(RecommendationScreen(self.model, self.data, self._draft(), self._keep_draft))

    def _draft(self) -> Draft:
        columns = {r: c for r, c in zip(("text", "label"), self._columns, strict=True) if c is not None}
        said = {"model": self.field("model").value, "data": self.field("data").value, "columns": columns}
        return replace(self._kept, held_out=self.field("held-out").value, **said)  # type: ignore[arg-type]

    def _keep_draft(self, draft: Draft) -> None:
        self._kept = draft

    def action_browse(self) -> None:
        """Pick a file for the field that has the focus (the data file otherwise)."""
        from tui.screens.files import FilesScreen

        focused = self.focused.id if self.focused is not None else None
        target = focused if focused in ("model", "held-out") else "data"
        start = Path(self.field(target).value or ".").expanduser()

        def picked(path: Path | None) -> None:
            if path is not None:
                self.field(target).fill(str(path))
                self.query_one(f"#{target}").focus()

        self.app.push_screen(FilesScreen(start, folders=target == "model"), picked)


def _is_local_model(name: str) -> bool:
    return name == "demo" or (Path(name).expanduser() / "config.json").is_file()


def _are_files(*names: str) -> bool:
    return all(Path(n).expanduser().is_file() for n in names if n)
