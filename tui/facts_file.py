"""Facts that a person brings in a JSON file, or through stdin."""

import codecs
import json
import sys
from pathlib import Path

from pydantic import ValidationError

from engine.files import unpiped
from recommender.errors import InputError
from recommender.facts import Facts

_WHERE_FROM = "facts are what `loracle inspect ... --json` prints."


def facts_from(file: Path) -> Facts:
    """The facts in a file, or in what stdin brings.

    Raises:
        InputError: it cannot be read, or is no facts file.
    """
    name = "stdin" if str(file) == "-" else str(file)
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else unpiped(file).read_bytes()
        facts = Facts.model_validate_json(content := content.removeprefix(codecs.BOM_UTF8))
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file.") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise InputError(_no_json(name, content)) from None
        place = ".".join(map(str, first["loc"]))
        why = "must be a version such as 5.2" if first["type"] == "string_pattern_mismatch" else first["msg"]
        raise InputError(f"{name}: {place + ': ' if place else ''}{why}.") from None
    if not facts.model_fields_set:
        raise InputError(f"{name}: holds no facts; they have the parts machine, model, data and goal.")
    return facts


def _no_json(name: str, content: bytes) -> str:
    if not content.strip():
        return f"{name}: is empty; facts are a JSON object with the parts machine, model, data and goal."
    try:
        json.loads(content.decode("utf-8", "replace"))
    except RecursionError:
        return f"{name}: is nested too deeply to be facts."
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()):
            return f"{name}: its JSON is cut off; write it again, or get it again."
        return f"{name}:{error.lineno}: is not JSON from column {error.colno} on; {_WHERE_FROM}"
    except ValueError:  # Python reads no more than 4,300 digits
        return f"{name}: holds a number that is far too long."
    return f"{name}: is not JSON; {_WHERE_FROM}"
