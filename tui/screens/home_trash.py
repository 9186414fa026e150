"""Runs of the list thrown away, and brought back."""

from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.content import Content

from engine.text import one_line
from recommender.errors import LoracleError
from tui import keys
from tui.background import in_thread
from tui.error_words import in_words
from tui.i18n import _
from tui.screens.base import LoracleScreen

if TYPE_CHECKING:
    from engine.rundir import RunDirectory
    from tui.run_rows import RunRow


class HomeTrash(LoracleScreen):
    """What the keys of the list do to the run under the cursor and to the trash."""

    _all: "list[RunRow]"

    def _chosen(self) -> "RunRow | None":
        raise NotImplementedError

    def _show(self, rows: "list[RunRow]") -> None:
        raise NotImplementedError

    def _note(self) -> None:
        raise NotImplementedError

    def load(self) -> object:
        """List all runs again."""
        raise NotImplementedError

    def action_delete(self) -> None:
        """Move the run under the cursor to the trash; a whole group only after a question."""
        row = self._chosen()
        if row is None:
            return
        merging = self.loracle.merges.run
        if merging is not None and merging.path.is_relative_to(row.run.group or row.run.path):
            words = _("{name} is being merged with its base: delete it once that is done.")
            self.say(words.format(name=merging.name), "warning")
            return
        if row.run.group is None:
            self._discard(row.run)
            return
        words = _("{name} belongs to {group}. Delete the whole group? {undo} restores it until the app is closed.")
        name, group = one_line(row.run.path.name, 60), one_line(row.run.group.name, 60)
        question = Content(words.format(name=name, group=group, undo=keys.name("undo", "u")))
        self.ask(question, _("Delete the group"), partial(self._discard, row.run))

    @work(group="trash", exit_on_error=False)
    async def _discard(self, run: "RunDirectory") -> None:
        from engine import trash

        try:
            thrown = await in_thread(trash.discard, run)
        except LoracleError as error:
            self.say(in_words(error.message), "warning")
        else:
            self.loracle.discarded.append(thrown)
            self._show([row for row in self._all if not row.run.path.is_relative_to(thrown.was)])
        self.load()

    @work(group="trash", exit_on_error=False)
    async def action_undo(self) -> None:
        """Bring back what was deleted last."""
        from engine import trash

        if not self.loracle.discarded:
            self.say(_("Nothing was deleted since the app was opened."), "warning")
            return
        try:
            await in_thread(trash.restore, self.loracle.discarded.pop())
        except LoracleError as error:
            self.say(in_words(error.message), "warning")
        self.load()

    def action_empty(self) -> None:
        """Free the disk now, after a question."""
        self.ask(Content(_("Delete for good what is in the trash? Nothing brings it back.")), _("Delete for good"), self._empty)

    @work(group="trash", exit_on_error=False)
    async def _empty(self) -> None:
        await in_thread(self.loracle.empty_trash)
        self._note()
