"""The app: a thin view of the same functions that `--auto` calls.

Nothing heavy is imported before the first paint; whatever blocks runs in threads; training is a process of its own.
"""

import asyncio
import gc
import os
import re
from functools import partial
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, ClassVar

from platformdirs import user_downloads_path
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.css.query import NoMatches
from textual.dom import DOMNode
from textual.screen import ModalScreen

from engine import userstate
from engine.text import one_line
from tui import keys, settings, terminal
from tui.ascii_only import AsciiOnly
from tui.background import in_thread
from tui.i18n import _
from tui.legible import legible
from tui.merges import Merges
from tui.navigation import Navigation
from tui.run_rows import RunList
from tui.screens.base import LoracleScreen
from tui.screens.home import HomeScreen
from tui.widgets.title import machine_line
from tui.words import status_with_sign, unicode_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.filter import LineFilter
    from textual.worker import Worker

    from engine.rundir import RunDirectory
    from engine.trash import Discarded
    from recommender.facts import Machine
    from tui.draft import Draft
    from tui.screens.palette import Command

KEPT = "app.json"
"""What a person chose here, for the next visit."""


class LoracleApp(Navigation):
    """Screens: home, set-up, recommendation, run, result."""

    TITLE = "Loracle"
    CSS_PATH = "app.tcss"
    ALLOW_IN_MAXIMIZED_VIEW = "KeyLine"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - typed by Textual
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]  # noqa: RUF012 - typed by Textual
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", _("Quit"), priority=True, id="quit", tooltip=_("Quit; a run in progress keeps running")),
        Binding("ctrl+p", "command_palette", _("Commands"), show=False, priority=True, id="palette",
                tooltip=_("All commands, by name")),
        Binding("ctrl+z", "suspend_process", _("Suspend"), id="suspend", show=False,
                tooltip=_("Leave the terminal to the shell; fg comes back")),
        Binding("f2", "change_theme", _("Theme"), id="theme", show=False, key_display="F2",
                tooltip=_("Choose the colours; they are kept")),
        Binding("f8", "picture", _("Screenshot"), id="screenshot", show=False, key_display="F8",
                tooltip=_("Save a picture of this screen as SVG")),
    ]  # fmt: skip

    def __init__(self, *, draft: "Draft | None" = None, runs: Path | None = None, attach: "RunDirectory | None" = None) -> None:
        super().__init__()
        self.runs = runs
        self.machine: Machine | None = None
        self.machine_line = Content.styled(_("inspecting this machine…"), "dim")
        self._looking: Worker[None] | None = None
        self._loop_of_app: asyncio.AbstractEventLoop | None = None
        self.left_running: RunDirectory | None = None
        """The live run on the screen when the app was left."""
        self._first_draft, self._first_run = draft, attach
        self.run_list = RunList()
        self.merges = Merges(self)
        self._quit_question: ModalScreen[bool] | None = None
        self._news = terminal.News()
        self.discarded: list[Discarded] = []
        """Runs in the trash, which may be brought back until the app is left."""
        self._ascii_only = [] if unicode_terminal() else [AsciiOnly()]
        self._choose_theme()
        self._own_keys = keys.chosen()
        self.set_keymap(self._own_keys)

    def get_default_screen(self) -> HomeScreen:
        """Home lies under everything."""
        return HomeScreen(go_to_setup=self._first_draft is None and self._first_run is None)

    def on_mount(self) -> None:
        self._loop_of_app = asyncio.get_running_loop()
        if self._first_run is not None:
            self.open_run(self._first_run)
        elif self._first_draft is not None:
            self.open_setup(self._first_draft)
        if not self.is_headless:  # tests have one app after the other in a process, and would keep them all
            # What was imported stays: looking through it for garbage again and again would take 60 to 100 ms each time.
            self.call_after_refresh(gc.freeze)
        self.theme_changed_signal.subscribe(self, lambda theme: userstate.keep(KEPT, {"theme": theme.name}))
        self.watch(self, "app_focus", self._focus_changed, init=False)
        self.call_after_refresh(self._check_settings)

    def _choose_theme(self) -> None:
        """The theme of the settings, else the one that was chosen last."""
        for name in (os.environ.get("LORACLE_THEME"), userstate.recall(KEPT).get("theme")):
            if isinstance(name, str) and name in self.available_themes:
                self.theme = name
                return

    def _check_settings(self) -> None:
        unknown = keys.unknown(self._own_keys, keys.all_ids()) if self._own_keys else []
        for sentence in [*unknown, *settings.unknown_theme(self.available_themes)]:
            self.notify(sentence, severity="warning", markup=False, timeout=15)

    def get_css_variables(self) -> dict[str, str]:
        """The theme's colours, legible; and a comparison's third curve: ansi-dark has one green for accent and success."""
        colours = super().get_css_variables()
        colours |= legible(colours)
        same = colours["text-success"] == colours["text-accent"]
        colours["third-curve"] = "ansi_magenta" if same else colours["text-success"]
        return colours

    def get_line_filters(self) -> "Sequence[LineFilter]":
        """What goes over every line before it is written."""
        return [*super().get_line_filters(), *self._ascii_only]

    def look_at_machine(self) -> None:
        """Find out what this machine has, once, when a screen that says so is shown: whoever attaches to a run is not kept."""
        if self._looking is None:
            # As a function: an app that is left in this moment leaves no coroutine behind that nobody awaits.
            self._looking = self.run_worker(self._look_at_machine, exit_on_error=False, group="machine")

    async def _look_at_machine(self) -> None:
        from tui import work

        self.know_machine(await in_thread(work.inspect_machine, self.runs))

    def know_machine(self, machine: "Machine") -> None:
        """Keep what this machine has and show it on every screen that says so; one that is put together now asks by itself."""
        self.machine = machine
        self.machine_line = machine_line(machine)
        for screen in self.screen_stack:
            if isinstance(screen, LoracleScreen) and screen.is_mounted and hasattr(screen, "machine_known"):
                screen.machine_known()

    def leave(self, code: int) -> None:
        """Leave by the front door, from a signal handler: Textual restores the terminal on exit, but not on signals."""
        if self._loop_of_app is None or self._loop_of_app.is_closed():
            raise SystemExit(code)
        self._loop_of_app.call_soon_threadsafe(self._exit_with, code)

    def _exit_with(self, code: int) -> None:
        self._note_running()
        if self._driver is not None:
            self._news.were_read(self._driver.write)
        self.exit(return_code=code)

    def _note_running(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, LoracleScreen):
                screen.leaving()
            run = getattr(screen, "live_run", None)
            if run is not None:
                self.left_running = run

    async def action_quit(self) -> None:
        """Quit. A live run is a process of its own and goes on; a merge is not, so that one asks, and twice is an answer too."""
        from tui.screens.confirm import ConfirmScreen

        if self.merges.run is None or self.screen is self._quit_question:
            typed_into = self.focused
            if typed_into is None:
                self._exit_with(0)
            else:  # after the keys that it was sent before this one
                typed_into.call_later(self._exit_with, 0)
            return
        words = _("{name} is being merged with its base. Quitting cancels the merge and removes what it wrote.")
        question = Content(words.format(name=one_line(self.merges.run.name, 60)))
        self._quit_question = ConfirmScreen(question, _("Quit"))
        self.push_screen(self._quit_question, self._quit_answered)

    def get_key_display(self, binding: Binding) -> str:
        """The key as the texts call it: Textual's sign for enter is not in every font."""
        if binding.key == "enter" and not binding.key_display:
            return "enter"
        shown = super().get_key_display(binding)
        return shown.upper() if re.fullmatch(r"f\d+", shown) else shown

    def action_help_quit(self) -> None:
        """Ctrl+C with nothing selected: how one leaves, by the key that it has now."""
        key = next((self.get_key_display(a.binding) for a in self.active_bindings.values() if a.binding.id == "quit"), "")
        self.notify(_("{key} leaves the app; a run in progress keeps running.").format(key=key), markup=False)

    def action_command_palette(self) -> None:
        """All commands, to be searched by name."""
        self._choose(_("Search for commands…"), self._commands)

    def search_themes(self) -> None:
        """All themes, to be searched by name."""
        from tui.screens.palette import Command

        names = sorted(self.available_themes)
        self._choose(_("Search for themes…"), lambda: [Command(n, partial(setattr, self, "theme", n)) for n in names], self.theme)

    def _choose(self, asked: str, commands: "Callable[[], list[Command]]", now: str = "") -> None:
        from tui.screens.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(asked, commands(), now), self._chosen)

    def _chosen(self, act: "Callable[[], object] | None") -> None:
        """Once the palette is gone: what acts on the screen below finds it on top."""
        if act is not None:
            self.call_later(act)

    def _quit_answered(self, yes: bool | None) -> None:
        if yes:
            self._exit_with(0)

    def _handle_exception(self, error: Exception) -> None:
        """Textual's hook. A screen that is left while it is still being put together misses parts: no news for anybody.

        Only of its own messages: whoever fails takes no more of them, and of the app, or of what is shown, no key would work.
        """
        found = (frame.f_locals.get("self") for frame, _line in walk_tb(error.__traceback__))
        node = next((n for n in found if isinstance(n, DOMNode)), self)  # the one that was at its messages
        shown = node is self or any(n in self.screen_stack for n in node.ancestors_with_self)
        if not self._exit and (shown or not isinstance(error, NoMatches)):
            super()._handle_exception(error)

    def _commands(self) -> "list[Command]":
        """Every action of what has the focus, of this screen and of the app, then the two places one always gets to."""
        from tui.screens.palette import Command

        offered = {a.binding.id: a for a in keys.own_bindings(self.screen)}
        found = [
            Command(
                active.binding.description,
                partial(self.run_action, active.binding.action, active.node),
                active.tooltip or active.binding.description,
                self.get_key_display(active.binding),
            )
            for active in offered.values()
            if active.enabled and active.binding.action != "command_palette"
        ]
        if "new" not in offered:
            found.append(Command(_("New run"), self.open_setup, _("Choose a model and data")))
        return [*found, Command(_("Runs"), self.only_home, _("The list of all runs"))]

    def empty_trash(self) -> None:
        """Make final what was deleted: once the app was left, or somebody needs the disk."""
        from engine import trash

        for thing in list(self.discarded):  # one by one: an app that is left meanwhile goes on with the rest
            if thing in self.discarded:
                self.discarded.remove(thing)
                trash.empty([thing])

    def action_picture(self) -> None:
        """Save what is on the screen once a palette that asked for it is gone; at home where there is no folder for downloads."""
        try:
            folder = None if user_downloads_path().is_dir() else str(Path.home())
        except RuntimeError:  # a user without a home, as in some containers
            folder = "."
        self.set_timer(0.1, partial(self.deliver_screenshot, path=folder))

    def copy_to_clipboard(self, text: str) -> None:
        """Copy out: through the terminal, wherever it runs, and by this machine's own helper if it has one."""
        super().copy_to_clipboard(text.encode("utf-8", "replace").decode())  # a file's name may hold bytes that are no text
        self.run_worker(in_thread(terminal.copy_locally, text), exit_on_error=False, group="clipboard")

    def tell_elsewhere(self, run: "RunDirectory", status: str) -> None:
        """News of a run that ended, for a person whose terminal is out of focus."""
        if self.app_focus or self._driver is None:
            return
        name, state = one_line(run.name, 60), status_with_sign(status)
        self._news.tell(self._driver.write, f"{state} · {name}", f"Loracle: {name}: {state}")

    def _focus_changed(self, focus: bool) -> None:
        if focus and self._driver is not None:
            self._news.were_read(self._driver.write)
