"""Settings that hold for every run: flag > environment (`LORACLE_*`) > plan > config.toml > default.

What config.toml says of the app becomes the default of the environment variable of that name, so that everything below,
children too, looks at one place. Fields of a plan stand in its table `[plan]`, or in `LORACLE_SET`, as after `--set`.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.files import beginning
from engine.text import one_line
from engine.userstate import folder_of
from recommender.assignment import as_typed, field_of
from recommender.errors import InputError
from tui.i18n import _

MAX_BYTES = 1_000_000


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _yes_or_no(value: Any) -> str | None:
    return ("1" if value else "") if isinstance(value, bool) else None


def _keys(value: Any) -> str | None:
    pairs = value.items() if isinstance(value, Mapping) else ()
    if not pairs or not all(isinstance(v, str) and v and not set(v) & set("; =") for _, v in pairs):
        return None
    return ";".join(f"{action}={keys}" for action, keys in pairs)


KNOWN: dict[str, tuple[Callable[[Any], str | None], str]] = {
    "runs": (_text, 'a folder, as in runs = "~/runs"'),
    "lang": (_text, 'a language, as in lang = "en"'),
    "theme": (_text, 'the name of a theme, as in theme = "nord"'),
    "ascii": (_yes_or_no, "true or false"),
    "bell": (_yes_or_no, "true or false"),
    "samples": (_yes_or_no, "true or false"),
    "keys": (_keys, 'a table of actions and keys, as in quit = "ctrl+x" or stop = "s,f9"'),
    "plan": (lambda value: "" if isinstance(value, Mapping) else None, "a table of fields of a plan"),
}
"""Names in config.toml: how a value is written in the environment (`None` where it is none), and what it must be."""

OF_ONE_RUN = ("model", "data", "method", "task", "seed", "version", "overrides", "fold")
"""Fields of a plan that no file can set for every run."""
_of_plans: dict[str, str] = {}
"""Fields of a plan that config.toml sets, as after `--set`."""


def config_file() -> Path:
    """config.toml in the user's configuration folder; `LORACLE_CONFIG` names another file."""
    named = os.environ.get("LORACLE_CONFIG")
    if named:
        return Path(os.path.expanduser(named))
    return folder_of("config") / "config.toml"


def load() -> None:
    """Read config.toml, if there is one, into the defaults of the environment.

    Raises:
        InputError: every mistake in it, with file, line and the nearest known name.
    """
    file = config_file()
    try:
        text = beginning(file, MAX_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        if not os.environ.get("LORACLE_CONFIG") and not os.path.lexists(file):  # the home of another, in some containers
            return
        raise InputError(f"{file}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8 text.") from None
    content = _parsed(text, file)
    wrong = []
    for name, value in content.items():
        where = f"{file}:{_line(text, name)}"
        if name not in KNOWN:
            close = difflib.get_close_matches(name, KNOWN, 1)
            near = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(KNOWN)}."
            wrong.append(f"{where}: {name}: no such setting. {near}")
            continue
        convert, expected = KNOWN[name]
        written = convert(value)
        if written is None:
            wrong.append(f"{where}: {name} must be {expected}.")
        elif name != "plan":
            os.environ.setdefault(f"LORACLE_{name.upper()}", written)
    plan = content.get("plan")
    wrong += _take_fields(plan, text, file) if isinstance(plan, Mapping) else []
    if wrong:
        raise InputError("\n".join(wrong))


def assignments(given: Sequence[str], *, has_plan: bool) -> list[str]:
    """`--set` of the command line after what the environment and config.toml set; where there is a plan it outranks the file."""
    written = {} if has_plan else dict(_of_plans)
    for pair in os.environ.get("LORACLE_SET", "").split():
        written[field_of(pair)] = pair
    said = {field_of(pair) for pair in given}
    return [*(pair for name, pair in written.items() if name not in said), *given]


def unknown_theme(known: Iterable[str]) -> list[str]:
    """A sentence, where the settings name a theme that there is not."""
    name = os.environ.get("LORACLE_THEME", "")
    if not name or name in known:
        return []
    close = difflib.get_close_matches(name, known, 1)
    if not close:
        return [_("theme {name}: there is no such theme.").format(name=one_line(name, 60))]
    return [_("theme {name}: there is no such theme; the nearest is {near}.").format(name=one_line(name, 60), near=close[0])]


def _parsed(text: str, file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"(.*?) \(at line (\d+), column (\d+)\)", str(error))
        where, problem = (f"{file}:{found[2]}:{found[3]}", found[1]) if found else (str(file), str(error))
        raise InputError(f"{where}: {problem[:1].lower()}{problem[1:]}.") from None


def _take_fields(plan: Mapping[str, Any], text: str, file: Path) -> list[str]:
    """Keep the fields of a plan; what is wrong with them."""
    from engine.contradictions import plan_of_settings

    wrong = []
    _of_plans.clear()
    for name, value in _flat(plan):
        where = f"{file}:{_line(text, name.partition('.')[0], 'plan')}"
        if name.startswith(OF_ONE_RUN):
            wrong.append(f"{where}: {name} belongs to one run and cannot be set for all of them.")
            continue
        written = as_typed(value)
        try:
            plan_of_settings([f"{name}={written}"])
        except InputError as error:
            wrong.append(f"{where}: {error.message.removeprefix('--set').lstrip(': ')}")
            continue
        _of_plans[name] = f"{name}={written}"
    return wrong


def _flat(plan: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in plan.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", v) for inner, v in value.items())
        else:
            yield name, value


def _line(text: str, name: str, table: str = "") -> int:
    """The line that name stands on, counted from 1: as a key of `table`, or as a table itself."""
    here = ""
    quoted = rf"""["']?{re.escape(name)}["']?"""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]*?)\s*\]+", line):
            here = header[1].strip("\"' ")
            if not table and here.partition(".")[0] == name:
                return number
        elif here == table and re.match(rf"\s*{quoted}\s*[.=]", line):
            return number
    return 1
