"""Things to do by name: all commands, or all themes. What is typed narrows the list, enter does what is marked."""

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui import keys
from tui.cells import fitted, padded
from tui.i18n import _
from tui.screens.dialog import Dialog
from tui.widgets.choices import Options


class Command(NamedTuple):
    """One of them."""

    name: str
    act: Callable[[], object]
    meaning: str = ""
    key: str = ""


class Palette(Dialog[Callable[[], object] | None]):
    """Answers with what is to be done: by then the screen below is the one that is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", _("Back"), id="back"),
        Binding("down", "move('cursor_down')", show=False),
        Binding("up", "move('cursor_up')", show=False),
        Binding("pagedown", "move('page_down')", show=False),
        Binding("pageup", "move('page_up')", show=False),
    ]

    def __init__(self, asked: str, commands: Sequence[Command], now: str = "") -> None:
        """`now` is the name of what holds at the moment, where one of them does."""
        super().__init__()
        self._asked = asked
        self._commands = self._shown = sorted(commands, key=lambda one: one.name.casefold())
        self._held = next((n for n, one in enumerate(self._commands) if one.name == now), 0)
        self._widest = 2 + max(cell_len(one.name) for one in commands)

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog", classes="palette"):
            yield Input(placeholder=self._asked, compact=True, id="palette-search", max_length=100)
            found = Options(id="palette-found", markup=False, compact=True)
            found.can_focus = False
            yield found
            said = _("enter takes it · {back} goes back").format(back=keys.name("back", "esc"))
            yield Static(Content.styled(said, "dim"), markup=False)

    def on_resize(self, event: events.Resize) -> None:
        """Lines are as wide as there is room; what is marked stays marked."""
        self.call_after_refresh(self._draw)

    def on_key(self, event: events.Key) -> None:
        """What is typed before the line has the focus belongs there too."""
        if event.is_printable and event.character is not None:
            self.query_one(Input).insert_text_at_cursor(event.character)

    @on(Input.Changed)
    def _list(self) -> None:
        """The best match first, then what only says so in its meaning; all of them while nothing is typed."""
        typed = self.query_one(Input).value.strip().casefold()
        matcher = Matcher(typed)
        matches = [(matcher.match(one.name) if typed else 0.0, one) for one in self._commands]
        found = [(score, one) for score, one in matches if score > 0 or typed in one.meaning.casefold()]
        self._shown = [one for _score, one in sorted(found, key=lambda pair: -pair[0])]
        self._draw(0 if typed else self._held)

    def _draw(self, marked: int | None = None) -> None:
        options = self.query_one(OptionList)
        if marked is None:
            marked = self._held if options.highlighted is None else options.highlighted
        options.clear_options()
        width = max(options.scrollable_content_region.width, 20)
        options.add_options([Option(self._line(one, width), id=str(self._commands.index(one))) for one in self._shown])
        if not self._shown:
            options.add_option(Option(Content.styled(_("No matches found"), "$text-muted"), disabled=True))
        options.highlighted = marked if self._shown else None

    def _line(self, one: Command, width: int) -> Content:
        if not one.meaning:
            return Content(fitted(one.name, width))
        key = f"  {one.key}" if one.key else ""
        room = max(width - self._widest - cell_len(key), 0)
        meaning = padded(fitted(one.meaning, room), room)
        return Content.assemble((padded(one.name, self._widest), "bold"), meaning, (key, "$text-muted"))

    def action_move(self, how: str) -> None:
        """The cursor of the list, while one types."""
        getattr(self.query_one(OptionList), f"action_{how}")()

    @on(Input.Submitted)
    def _entered(self) -> None:
        at = self.query_one(OptionList).highlighted
        if at is not None and self._shown:
            self.dismiss(self._shown[at].act)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._commands[int(str(event.option_id))].act)  # by now the list may be another one
