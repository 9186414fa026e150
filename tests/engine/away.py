"""A hub that cannot be reached, and what is then said of a model."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants

from engine import inspect as subject
from recommender.errors import Exit, InputError
from tests.conftest import answered_here

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and a hub that cannot be reached, for every test of a module that imports this."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fetches_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a child would be asked of a hub is answered here, too, under the environment of that moment."""

    def ask(kind: str, request: dict[str, Any], **given: Any) -> dict[str, Any]:
        importlib.reload(constants)
        return answered_here(kind, request, **given)

    before = dict(vars(constants))
    monkeypatch.setattr(subject, "ask", ask)
    yield
    vars(constants).update(before)
    close_session()


def complaint(name: str) -> str:
    """Why a model cannot be looked at: one sentence."""
    with pytest.raises(InputError) as caught:
        subject.inspect_model(name)
    assert caught.value.exit == Exit.USAGE
    assert "Traceback" not in caught.value.message
    return caught.value.message
