"""config.toml, the environment and flags: who outranks whom, and mistakes told with their line."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable

from engine import demo_chat, userstate
from recommender.errors import InputError
from tests.tui.driving import showing, wait
from tui import settings
from tui.app import LoracleApp
from tui.cli import main


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("LORACLE_CONFIG", str(file))
    for name in settings.KNOWN:
        monkeypatch.setenv(f"LORACLE_{name.upper()}", "x")  # so that the test's end takes away what loading sets
        monkeypatch.delenv(f"LORACLE_{name.upper()}")
    monkeypatch.setattr(settings, "_of_plans", {})
    return file


def test_the_environment_outranks_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('runs = "~/here"\ntheme = "nord"\nascii = true\n[keys]\nquit = "ctrl+x"\nstop = "s,f9"\n')
    monkeypatch.setenv("LORACLE_THEME", "dracula")
    settings.load()
    assert os.environ["LORACLE_RUNS"] == "~/here"
    assert os.environ["LORACLE_THEME"] == "dracula"
    assert os.environ["LORACLE_ASCII"] == "1"
    assert os.environ["LORACLE_KEYS"] == "quit=ctrl+x;stop=s,f9"


def test_fields_of_a_plan_go_flag_environment_plan_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("[plan]\nepochs = 3\nlearning_rate = 1e-4\nclass_weights = true\n")
    settings.load()
    monkeypatch.setenv("LORACLE_SET", "learning_rate=2e-4 rank=8")
    assert settings.assignments(["rank=16"], has_plan=False) == [
        "epochs=3", "learning_rate=2e-4", "class_weights=true", "rank=16",
    ]  # fmt: skip
    assert settings.assignments(["rank=16"], has_plan=True) == ["learning_rate=2e-4", "rank=16"]


def test_every_mistake_is_told_with_its_line_and_the_nearest_name(config: Path) -> None:
    config.write_text('# mine\nthem = "nord"\nascii = "yes"\n\n[plan]\nepochs = "x"\nlerning_rate = 1e-4\nseed = 3\nfolds = 5\n')
    with pytest.raises(InputError) as caught:
        settings.load()
    lines = caught.value.message.splitlines()
    assert lines[0] == f"{config}:2: them: no such setting. Did you mean theme?"
    assert lines[1] == f"{config}:3: ascii must be true or false."
    assert lines[2] == f"{config}:6: epochs must be a number (it is 'x')."
    assert lines[3].startswith(f"{config}:7: lerning_rate: no such field of a plan. Did you mean learning_rate?")
    assert lines[4].startswith(f"{config}:8: seed belongs to one run")
    assert lines[5].startswith(f"{config}:9: folds belongs to one run")


def test_what_is_no_toml_is_told_with_line_and_column(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text('runs = "a"\ntheme = \n')
    assert main(["runs"]) == 2
    assert f"{config}:2:" in capsys.readouterr().err


def test_help_works_whatever_the_file_says(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("nonsense")
    assert main(["--help"]) == 0
    assert "exit codes" in capsys.readouterr().out


def test_a_user_without_a_home_has_no_settings_and_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number: every command ended in a traceback."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for kind in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.delenv(f"LORACLE_{kind}", raising=False)
        monkeypatch.delenv(f"XDG_{kind}_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    settings.load()
    userstate.keep("a.json", {"a": 1})
    assert userstate.recall("a.json") == {}
    assert not demo_chat.is_there()


async def test_a_theme_that_there_is_not_is_told_with_the_nearest(
    runs: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run()  # else set-up would be opened in this very moment
    monkeypatch.setenv("LORACLE_THEME", "nrod")
    app = LoracleApp(runs=runs)
    async with showing(app, lambda: any("the nearest is nord" in n.message for n in app._notifications)) as pilot:
        await wait(pilot, lambda: bool(app.screen.query_one(DataTable).row_count))
