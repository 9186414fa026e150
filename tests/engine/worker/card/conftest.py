"""Without the plugin there is no card, and none of these tests."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.worker.card import plugin, pretend


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if config.pluginmanager.hasplugin(plugin.__name__) else True


@pytest.fixture
def card() -> Iterator[Any]:
    """The card, with all of its memory free for the run; what its peak is counts from here."""
    (card,) = plugin.CARDS
    room = pretend.CARD.total_memory - pretend.CONTEXT
    gc.collect()
    card.empty_cache()
    card.reset_peak()
    card.limit(room)
    yield card
    card.limit(room)
