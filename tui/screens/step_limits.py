"""Set-up, limits: how long a run may take, and how many of the rows it trains on and is scored on."""

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from tui.draft import Draft
from tui.i18n import _
from tui.screens.step import Step
from tui.words import number, sign

FEWEST_TRAINED = 2


class LimitsStep(Step):
    """All may be left empty."""

    TITLE: ClassVar[str] = _("Limits")
    HELP: ClassVar[str] = _("How long a run may take and how many rows it uses; everything may be left empty.")

    def __init__(self, draft: Draft) -> None:
        super().__init__(id="step-limits")
        hours = draft.goal.get("time_budget_hours")
        self._hours = f"{hours:g}" if isinstance(hours, int | float) else ""
        self._rows = str(draft.train_rows) if draft.train_rows else ""
        self._scored = str(draft.eval_rows) if draft.eval_rows else ""

    def compose(self) -> ComposeResult:
        number_of, every = r"([1-9][0-9]{0,8})?", _("all of them")  # a 0 would mean all, which nobody who types it means
        for name, words, value, without, typed in (
            ("hours", _("Time"), self._hours, _("no limit"), r"[0-9]*\.?[0-9]*"),
            ("take", _("Training rows"), self._rows, every, number_of),
            ("score", _("Held-out rows"), self._scored, every, number_of),
        ):
            with Horizontal(classes="row"):
                yield Static(words, classes="label", markup=False)
                yield Input(value, id=name, compact=True, placeholder=without, restrict=typed)
            yield Static(id=f"{name}-says", classes="facts", markup=False)
        lines = [
            _("Memory is measured: a run uses what is free on this machine now, and the line below says which methods fit."),
            _("Enter goes on to the plan, tab to the next line."),
        ]
        yield Static(Content.styled("\n".join(lines), "$text-muted"), id="limits-more", markup=False)

    def on_mount(self) -> None:
        self.know(None, None, named=False)

    @property
    def train_rows(self) -> int | None:
        """The sample that is wanted; `None` for all rows, and for what is no sample."""
        return self._sample("take", FEWEST_TRAINED)

    @property
    def eval_rows(self) -> int | None:
        """The same of the held-out rows."""
        return self._sample("score", 1)

    def _sample(self, name: str, least: int) -> int | None:
        text = self.query_one(f"#{name}", Input).value
        return int(text) if text and int(text) >= least else None

    @property
    def hours(self) -> float | None:
        """Hours a run may take; `None` for no limit."""
        text = self.query_one("#hours", Input).value.strip(".")
        return float(text) if text and float(text) > 0 else None

    def said(self) -> dict[str, Any]:
        return {"train_rows": self.train_rows, "eval_rows": self.eval_rows, "hours": self.hours}

    def enter(self) -> None:
        self.query_one("#hours").focus()

    def know(self, rows: int | None, held_out: int | None, *, named: bool) -> None:
        """Say how many rows there are, as far as they were looked at; `named` where there is a file of held-out rows."""
        says = Content.styled(_("Hours one run may take; nothing longer is recommended."), "dim")
        self.query_one("#hours-says", Static).update(says)
        whole = rows if self.train_rows is None else None  # of a sample only its own size is known
        of = _("A sample of the {rows} rows.").format(rows=number(whole)) if whole else _("A sample of the rows.")
        said = Content.styled(of, "dim")
        if self.query_one("#take", Input).value and self.train_rows is None:
            said = Content.styled(f"{sign('✗')} {_('At least 2 rows are needed.')}", "$text-error")
        self.query_one("#take-says", Static).update(said)
        wanted = self.eval_rows
        whole = held_out if wanted is None else None
        of = _("A sample of the held-out rows.")
        of = _("A sample of the {rows} held-out rows.").format(rows=number(whole)) if whole else of
        if not named:
            of = _("No held-out file is named: some training rows are held out.")
            if wanted is not None:
                of = _("No held-out file is named: {n} rows are held out.").format(n=number(wanted))
        self.query_one("#score-says", Static).update(Content.styled(of, "dim"))
        self.query_one("#score", Input).placeholder = _("all of them") if named else _("the usual share")

    def take(self, hours: float | None) -> None:
        """Another time was said elsewhere."""
        with self.prevent(Input.Changed):
            self.query_one("#hours", Input).value = f"{hours:g}" if hours is not None else ""

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Said())

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        """Straight on: most people want none of these."""
        event.stop()
        take = self.query_one("#take", Input)
        if take.value and self.train_rows is None:
            take.focus()  # what is wrong with it stands below, and all rows would be trained on
        else:
            self.post_message(self.Done())
