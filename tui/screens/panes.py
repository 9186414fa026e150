"""Screens made of numbered panes: number keys focus them, m gives one the room of all."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.layouts.vertical import VerticalLayout
from textual.widget import Widget

from tui.i18n import _
from tui.screens.base import LoracleScreen
from tui.widgets.pane import Pane, clicked
from tui.words import sign


class PanesScreen(LoracleScreen):
    """Of panes with the class `lower`, a low terminal shows one at a time: the one that was asked for last."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(n), f"pane({n})", _("Pane {n}").format(n=n), id=f"pane-{n}", show=False, tooltip=_("Go to that pane"))
            for n in range(1, 8)
        ),
        Binding("m", "enlarge", _("Maximise"), id="maximise", show=False, tooltip=_("Give the focused pane the whole screen")),
    ]

    _enlarged: Pane | None = None
    _asked_for: Pane | None = None

    def watch_focused(self, before: Widget | None, after: Widget | None) -> None:
        """The frame tells which pane the focus is in."""
        for pane in {_pane_around(before), _pane_around(after)}:
            if pane is not None:
                pane.mark_focus()

    def on_resize(self, event: events.Resize) -> None:
        """Another size may hide other panes. (Textual calls the handlers of all classes.)"""
        if self._asked_for is not None:
            self._show_lower(self._asked_for)
        self.call_after_refresh(self._tell_hidden)

    def _tell_hidden(self) -> None:
        """In the frame of the lowest pane in sight stand those that have no room."""
        lower = [pane for pane in self.query(Pane) if pane.has_class("lower")]
        seen = [pane for pane in lower if pane.display]
        hidden = sorted((pane for pane in lower if not pane.display), key=lambda pane: pane.number)
        names = [clicked(f"{p.number} {p.name_of}", f"pane({p.number})") for p in hidden]
        for pane in seen:
            pane.others = Content(f" {sign('·')} ").join(names) if pane is seen[-1] else Content("")
            pane.say_below()

    def action_pane(self, number: int) -> None:
        """Focus the pane with that number."""
        pane = next((p for p in self.query(Pane) if p.number == number), None)
        if pane is None:
            return
        if pane is not self._enlarged:
            self._shrink()
        self._asked_for = pane
        if pane.display:  # nothing but the focus changes
            _focus_in(pane)
            return
        self._show_lower(pane)
        self._rearranged()
        self.call_after_refresh(_focus_in, pane)

    def _show_lower(self, pane: Pane) -> None:
        """Where there is room for one of the lower panes, it is that one."""
        if pane.has_class("lower") and not pane.has_class("-shown"):
            for other in self.query(".lower.-shown"):
                other.remove_class("-shown")
            pane.add_class("-shown")

    def action_enlarge(self) -> None:
        """Give the focused pane the room of all of them, or make it small again."""
        if self._enlarged is not None:
            self._shrink()
        elif (pane := _pane_around(self.focused)) is not None:
            self._enlarge(pane)

    def _enlarge(self, pane: Pane) -> None:
        """By styles of the widgets' own: Textual's way, a class on the screen, styles every widget anew, at twice the time.

        Rules alone leave the others as they were painted; that of the pane itself tells Textual that its parent's list changed.
        """
        self._enlarged = pane
        for other in pane.siblings:
            other.styles.set_rule("display", "none")
        pane.parent.styles.set_rule("layout", VerticalLayout())  # type: ignore[union-attr]
        pane.styles.display = "block"
        self.call_after_refresh(self.arranged)

    def _rearranged(self) -> None:
        """What comes into sight is drawn before it is laid out, and only what depends on its size once more after that."""
        self.appeared()
        self.call_after_refresh(self._tell_hidden)
        self.call_after_refresh(self.arranged)

    def appeared(self) -> None:
        """Other panes are in sight now."""

    def arranged(self) -> None:
        """Panes have another size now: for what is drawn as wide as there is room."""

    def _shrink(self) -> None:
        pane, self._enlarged = self._enlarged, None
        if pane is not None:
            for other in pane.siblings:
                other.styles.clear_rule("display")
            pane.parent.styles.clear_rule("layout")  # type: ignore[union-attr]
            pane.styles.display = None
            self._rearranged()

    def action_back(self) -> None:
        """Out of a pane that was made large, else out of the screen."""
        if self._enlarged is not None:
            self._shrink()
        else:
            super().action_back()


def _pane_around(widget: Widget | None) -> Pane | None:
    return None if widget is None else next((n for n in widget.ancestors_with_self if isinstance(n, Pane)), None)


def _focus_in(pane: Pane) -> None:
    next((w for w in pane.query("*") if w.focusable), pane).focus(scroll_visible=False)
