"""The language of sentences: English, unless a front end puts another catalogue in. Imports nothing."""

from collections.abc import Mapping

_catalogue: Mapping[str, str] = {}


def use(catalogue: Mapping[str, str]) -> None:
    """From now on take sentences from `catalogue`: English text → text of another language. What it lacks stays English."""
    global _catalogue
    _catalogue = catalogue


def said(text: str) -> str:
    """`text` in the language in use."""
    return _catalogue.get(text, text)


def marked(text: str) -> str:
    """`text` as it is: marks what is said in another language later, where it is shown."""
    return text
