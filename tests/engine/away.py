"""A hub that cannot be reached, and what is then said of a model."""

from pathlib import Path

import pytest

from engine import inspect as subject
from recommender.errors import Exit, InputError

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache and a hub that cannot be reached, for every test of a module that imports this."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def complaint(name: str) -> str:
    """Why a model cannot be looked at: one sentence."""
    with pytest.raises(InputError) as caught:
        subject.inspect_model(name)
    assert caught.value.exit == Exit.USAGE
    assert "Traceback" not in caught.value.message
    return caught.value.message
