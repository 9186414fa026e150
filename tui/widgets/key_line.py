"""The line at the bottom: the keys that work here, as many as fit. One widget, drawn at once.

Textual's footer is a widget a key, made anew whenever a key comes or goes: with the run screen that was half of what a change
of focus cost, it was blank until the terminal had the focus, and what did not fit was cut off in the middle of a word.
"""

from typing import TYPE_CHECKING

from textual import events
from textual.content import Content
from textual.keys import key_to_character
from textual.widget import Widget
from textual.widgets import Input

if TYPE_CHECKING:
    from textual.binding import ActiveBinding
    from textual.screen import Screen

KEY, MEANING, OFF = "bold $footer-key-foreground", "$footer-description-foreground", "$text-disabled"


class KeyLine(Widget):
    """A click is the key, and a letter is no key while one types.

    What does not fit whole is left out; the command palette, which has all, keeps the right end.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = "KeyLine { dock: bottom; height: 1; background: $footer-background; }"

    def __init__(self) -> None:
        super().__init__(id="key-line", markup=False)
        self._shown = Content("")
        self._ends: list[tuple[int, ActiveBinding]] = []
        """The cell at which each key's part ends."""
        self._due = False

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)
        self._changed(self.screen)

    def _changed(self, _screen: "Screen[object]") -> None:
        """Several changes at once are one drawing."""
        if not self._due:
            self._due = True
            self.call_after_refresh(self.show)

    def on_resize(self) -> None:
        """As many as fit now."""
        self.show()

    def show(self) -> None:
        """Take the keys that work now."""
        self._due = False
        if not self.is_attached:
            return
        active = self.screen.active_bindings
        palette = next((a for a in active.values() if a.binding.action == "command_palette"), None)
        typing = isinstance(self.screen.focused, Input)
        known = (a for a in reversed(active.values()) if a.binding.show and not (typing and _is_typed(a.binding.key)))
        keys = {a.binding.action: a for a in known}
        foremost = getattr(self.screen, "foremost", "")
        ordered = list(reversed(keys.values()))
        ordered.sort(key=lambda one: one.binding.action != foremost)
        parts = [(self._part(one), one) for one in ordered]
        last = self._part(palette) if palette is not None else Content("")
        room = self.size.width - last.cell_length
        shown: list[Content] = []
        self._ends, width = [], 0
        for part, one in parts:
            if width + part.cell_length > room:
                continue
            width += part.cell_length
            shown.append(part)
            self._ends.append((width, one))
        content = Content.assemble(*shown, " " * max(room - width, 0), last)
        if palette is not None:
            self._ends.append((self.size.width, palette))
        if content.plain != self._shown.plain or content.spans != self._shown.spans:
            self._shown = content
            self.refresh()

    def _part(self, one: "ActiveBinding") -> Content:
        key, words = self.app.get_key_display(one.binding), one.binding.description
        styles = (KEY, MEANING) if one.enabled else (OFF, OFF)
        return Content.assemble((f" {key} ", styles[0]), (f"{words} ", styles[1]))

    def render(self) -> Content:
        """The line."""
        return self._shown

    def _at(self, x: int) -> "ActiveBinding | None":
        return next((one for end, one in self._ends if end - self._part(one).cell_length <= x < end), None)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Say what the key under the mouse does."""
        one = self._at(event.x)
        self.tooltip = (one.tooltip or one.binding.description) if one is not None else None

    def on_click(self, event: events.Click) -> None:
        """As if the key was pressed."""
        event.stop()
        one = self._at(event.x)
        if one is not None and one.enabled:
            self.call_later(self.app.run_action, one.binding.action, one.node)  # the key itself might be typed into a field


def _is_typed(key: str) -> bool:
    character = key_to_character(key)
    return character is not None and character.isprintable()
