"""Results a line at a time, so that a piece that is cut off keeps what it measured and goes on behind it."""

import contextlib
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from engine.installed import version

T = TypeVar("T")

RESULTS = Path(__file__).parents[1] / "results"
PACKAGES = ("torch", "transformers", "accelerate", "peft", "bitsandbytes", "trl", "liger-kernel", "triton")


class Lines:
    """The results of one piece, each with a `key`; `until` is when the piece must be over, by `time.monotonic`."""

    def __init__(self, file: Path, until: float) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._started = time.monotonic()
        self.until = until
        self.known = {line["key"]: line for line in read_lines(file)}
        if file.exists() and not file.read_bytes().endswith(b"\n"):  # a piece was killed as it wrote
            with file.open("a", encoding="utf-8") as stream:
                stream.write("\n")

    def wanted(self, key: str, *, seconds: float = 0.0) -> bool:
        """Whether that is still to be measured and `seconds` are left for it."""
        return key not in self.known and time.monotonic() + seconds < self.until

    def write(self, key: str, **found: Any) -> None:
        """Keep one result, on disk at once."""
        line = {"key": key, "at": round(time.monotonic() - self._started, 2)} | found
        self.known[key] = line
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    @contextlib.contextmanager
    def trying(self, key: str) -> Iterator[None]:
        """Whatever goes wrong inside becomes a result: one missing package must not hide the rest."""
        try:
            yield
        except Exception as error:
            self.write(key, result="error", error=f"{type(error).__name__}: {str(error)[:400]}")


def without_numbers_first(
    piece: str, named: Iterable[T], keys_of: Callable[[T], Sequence[str]], folder: Path = RESULTS
) -> list[T]:
    """The measurements of a piece in their order, but those behind the others of which results of every key are committed,
    whatever the card: a loan is short."""
    known = {
        line["key"]
        for file in folder.glob(f"gpu-{piece}*.json")
        for line in json.loads(file.read_text(encoding="utf-8"))["results"]
        if line.get("result") != "error"
    }
    return sorted(named, key=lambda one: known.issuperset(keys_of(one)))


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The results in a file; a torn last line is left out."""
    found = []
    with contextlib.suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def machine() -> dict[str, Any]:
    """What the numbers were taken on."""
    import torch

    system = f"{platform.system()} {platform.machine()}"
    found: dict[str, Any] = {"system": system, "python": platform.python_version(), "gpu": None}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "capability": [properties.major, properties.minor],
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    return found | {package: there for package in PACKAGES if (there := version(package)) is not None}


def _driver() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None
