"""Keys as a person has them: `LORACLE_KEYS` (config.toml, `[keys]`) gives other keys to actions by the ids of their bindings."""

import difflib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tui.i18n import _

if TYPE_CHECKING:
    from textual.binding import ActiveBinding
    from textual.screen import Screen


def chosen() -> dict[str, str]:
    """Action ids and the keys that the person wants for them: `stop=ctrl+s;quit=ctrl+x,f10`."""
    pairs = (pair.partition("=") for pair in os.environ.get("LORACLE_KEYS", "").split(";"))
    return {name.strip(): keys.strip() for name, sign, keys in pairs if sign and name.strip() and keys.strip()}


def name(action: str, usual: str) -> str:
    """The key of an action, for a sentence that names it: the person's own, else the usual one."""
    own = chosen().get(action, "").partition(",")[0].strip()
    if not own:
        return {"enter": _("enter"), "space": _("space"), "up": _("up"), "backspace": _("backspace")}.get(usual, usual)
    from textual.keys import format_key

    *modifiers, key = own.split("+")
    shown = format_key(key)
    return "+".join([*modifiers, shown.upper() if shown[:1] == "f" and shown[1:].isdigit() else shown])


def unknown(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """A sentence for each name that no action has."""
    ids = sorted(set(known))
    said = []
    for name in names:
        if name not in ids:
            near = difflib.get_close_matches(name, ids, 1)
            said.append(f"keys.{name}: no action has this name{f'; did you mean {near[0]}?' if near else '.'}")
    return said


def all_ids() -> set[str]:
    """Ids of every binding of the app, its screens and widgets."""
    from importlib import import_module
    from pkgutil import iter_modules

    from textual.binding import Binding
    from textual.dom import DOMNode

    import tui.screens
    import tui.widgets

    for package in (tui.screens, tui.widgets):
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    found: set[str] = set()
    kinds: list[type[Any]] = [DOMNode]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.startswith("tui."):
            found |= {b.id for b in kind.__dict__.get("BINDINGS", ()) if isinstance(b, Binding) and b.id}
    return found


def own_bindings(screen: "Screen[Any]") -> "list[ActiveBinding]":
    """What is bound now by us and described: of what has the focus first, then of the screen and the app."""
    ours = (a for a in screen.active_bindings.values() if type(a.node).__module__.startswith("tui."))
    return [a for a in ours if a.binding.id and a.binding.description]
