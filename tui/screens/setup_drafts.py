"""What was said in set-up is kept: the draft at hand, and those that were begun and put aside."""

from textual import work
from textual.timer import Timer

from tui import draft as drafts
from tui import keys
from tui import views_setup as views
from tui.background import in_thread
from tui.draft import Draft
from tui.i18n import _
from tui.screens.base import LoracleScreen
from tui.screens.pick import PickScreen

KEEP_AFTER = 0.6
"""Seconds without a change before the draft is written down."""


class SetupDrafts(LoracleScreen):
    """Keeps the draft, and changes to another one."""

    def __init__(self, draft: Draft | None) -> None:
        super().__init__()
        self._put_aside = draft is not None and drafts.begin(draft)
        self.draft = draft or drafts.kept()
        self._keeping: Timer | None = None

    def on_unmount(self) -> None:
        """What was said in the last moment."""
        if self._keeping is not None:
            drafts.keep(self.draft)

    def used(self) -> None:
        """A run was started from the draft, or another one is begun: what was said last is not to be written down after that."""
        if self._keeping is not None:
            self._keeping.stop()
        self._keeping = None

    def _take(self, draft: Draft) -> None:
        """Keep the draft, shortly after the last change."""
        if draft == self.draft:
            return
        self.draft = draft
        if self._keeping is not None:
            self._keeping.stop()
        self._keeping = self.set_timer(KEEP_AFTER, self._keep)

    @work(exclusive=True, group="draft", exit_on_error=False)
    async def _keep(self) -> None:
        await in_thread(drafts.keep, self.draft)

    def action_anew(self) -> None:
        """Begin with nothing said; what was said is put aside."""
        self._change_to(Draft())

    def _change_to(self, draft: Draft) -> None:
        drafts.keep(self.draft)
        self.used()
        self.app.switch_screen(type(self)(draft))

    def action_drafts(self) -> None:
        """Pick another draft; this one is put aside."""
        others = drafts.aside()
        if not others:
            words = _("There is no other draft; {key} starts one and puts this one aside.")
            self.say(words.format(key=keys.name("anew", "ctrl+n")))
            return

        def picked(index: str | None) -> None:
            if index is not None:
                self._change_to(others[int(index)])

        options = [(str(n), views.draft_line(one)) for n, one in enumerate(others)]
        self.app.push_screen(PickScreen(_("Drafts"), options), picked)
