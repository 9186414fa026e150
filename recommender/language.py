"""The language of sentences: English, unless a front end puts another catalogue in. Imports nothing."""

from collections.abc import Mapping

_catalogue: Mapping[str, str] = {}
_engine: Mapping[str, str] = {}


def use(catalogue: Mapping[str, str], engine: Mapping[str, str] | None = None) -> None:
    """From now on take sentences from `catalogue`: English text → text of another language. What it lacks stays English.

    `engine` is another one, of what is recognised by its template because it comes as a finished sentence.
    """
    global _catalogue, _engine
    _engine = engine or {}
    _catalogue = {**_engine, **catalogue}


def of_engine() -> Mapping[str, str]:
    """The templates of finished sentences in the language in use; none in English."""
    return _engine


def said(text: str) -> str:
    """`text` in the language in use."""
    return _catalogue.get(text, text)


def marked(text: str) -> str:
    """`text` as it is: marks what is said in another language later, where it is shown."""
    return text
