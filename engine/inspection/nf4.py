"""Whether 4-bit training really works here: one forward and backward pass, in a child, remembered."""

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.files import read_json, write_json
from recommender.errors import LoracleError

TRIAL_SECONDS = 60.0


def state_folder() -> Path:
    """Where small things are remembered between runs: `LORACLE_STATE`, else the user's state directory."""
    named = os.environ.get("LORACLE_STATE")
    if named:
        return Path(named)
    import platformdirs

    return platformdirs.user_state_path("loracle")


def remembered(device: str) -> bool | None:
    """What the last trial on that device with these versions found; `None` when there was none."""
    try:
        found = read_json(state_folder() / "nf4.json", 1_000_000).get(_key(device))
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, bool) else None


def works(device: str, backend: str, only: dict[str, str]) -> bool | None:
    """Try it now, up to `TRIAL_SECONDS`, and remember the answer; `None` when it could not be told.

    `device` is a name for the memory; `only` are the environment variables that show the child the one to try.
    """
    from engine.inspection.child import ask

    known = remembered(device)
    if known is not None:
        return known
    try:
        answer = ask("nf4", {"backend": backend}, about="4-bit trial", timeout=TRIAL_SECONDS, extra=only)
    except LoracleError as error:
        # A machine or a card that is busy now says nothing about the kernels.
        if "took longer" in error.message or "out of memory" in error.message:
            return None
        answer = {"works": False}
    result = answer["works"]
    if result is not None:
        _remember(device, result)
    return result if result is None else bool(result)


def trial(backend: str) -> bool | None:
    """One forward and backward pass through a 4-bit layer on that backend's device; `None` when its memory is full.

    Only for the child: it imports torch.
    """
    try:
        import bitsandbytes as bnb
        import torch

        device = {"cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "mps": "mps"}.get(backend, "cpu")
        layer: Any = bnb.nn.modules.Linear4bit(  # type: ignore[no-untyped-call]
            64, 64, bias=False, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=True
        ).to(device)
        rows = torch.randn(4, 64, device=device, requires_grad=True)
        layer(rows).sum().backward()
        return rows.grad is not None and bool(torch.isfinite(rows.grad).all()) and bool(rows.grad.abs().sum() > 0)
    except (ImportError, RuntimeError, OSError, AttributeError, NotImplementedError, ValueError, AssertionError) as error:
        return None if "out of memory" in str(error) else False


def _remember(device: str, result: bool) -> None:
    path = state_folder() / "nf4.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            known = read_json(path, 1_000_000)
        except (OSError, ValueError):
            known = {}
        write_json(path, {**(known if isinstance(known, dict) else {}), _key(device): result})
    except OSError:
        return  # a read-only home: the next start tries again


def _key(device: str) -> str:
    return json.dumps([device, *(f"{name} {_version(name)}" for name in ("torch", "bitsandbytes"))])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
