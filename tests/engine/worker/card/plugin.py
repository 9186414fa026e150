"""Puts the pretended card into a session: `python -m pytest -p tests.engine.worker.card.plugin`, and any tests of the worker."""

from typing import Any

import pytest

from tests.engine.worker.card import pretend

CARDS: list[Any] = []
"""The card, once it is there."""


def pytest_sessionstart(session: pytest.Session) -> None:
    if said := pretend.lacking():
        pytest.exit(said, returncode=0)
    CARDS.append(pretend.begin(pretend.built(session.config.cache.mkdir("card"))))
