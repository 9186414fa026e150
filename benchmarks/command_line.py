"""What the commands of all benchmarks share: their help, and where results go."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LONG = ("runs", "machine")
"""Parts of a result that are written and not printed."""


def command_line(about: str | None) -> argparse.ArgumentParser:
    """A parser with that text as its help, and `--output`."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="where the result is written")
    return made


def in_turns_line(about: str | None, sides: Iterable[str], what: Sequence[str] = ("compare",)) -> argparse.ArgumentParser:
    """That of a benchmark whose sides take turns in children of the same module: `serve`, a side, and the steps already done."""
    made = command_line(about)
    alone = len(what) == 1
    made.add_argument("what", nargs="?" if alone else None, choices=(*what, "serve"), default=what[0] if alone else None)
    made.add_argument("side", nargs="?", choices=tuple(sides), help=argparse.SUPPRESS)
    made.add_argument("--done", type=int, default=0, help=argparse.SUPPRESS)
    made.add_argument("--work", type=Path, default=Path("runs-bench"))
    return made


def words(about: str | None) -> str:
    """What is named on the command line, in one; `--help` prints that text and runs nothing."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("words", nargs="*", metavar="WORDS", help="only what has them in its name")
    return " ".join(made.parse_args().words)


def keep(result: Mapping[str, Any], folder: Path, name: str) -> None:
    """Write it beside the earlier ones, and print what is not long of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k not in LONG}, indent=1))
