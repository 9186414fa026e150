"""Names that say which split a file or a folder is."""

import re

_NAMES = re.compile(r"(?:^|[/_.\- ])(train|training|test|testing|validation|valid|val|dev|eval)(?=[/_.\- 0-9]|$)")
_USUAL = {"training": "train", "testing": "test"} | dict.fromkeys(("valid", "val", "dev", "eval"), "validation")


def split_named(path: str) -> str | None:
    """The split that a path names, called as `datasets` calls it (train, test, validation); `None` where it names none."""
    found = _NAMES.search(path.lower())
    return _USUAL.get(found.group(1), found.group(1)) if found else None
