"""Facts that a person brings in a JSON file, or through stdin."""

import codecs
import sys
from pathlib import Path

from pydantic import ValidationError

from recommender.errors import InputError
from recommender.facts import Facts


def facts_from(file: Path) -> Facts:
    """The facts in a file, or in what stdin brings.

    Raises:
        InputError: it cannot be read, or is no facts file.
    """
    name = "stdin" if str(file) == "-" else str(file)
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        facts = Facts.model_validate_json(content.removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{name}: {place + ': ' if place else ''}{first['msg']}.") from None
    if not facts.model_fields_set:
        raise InputError(f"{name}: holds no facts; its parts are machine, model, data, goal.")
    return facts
