"""Files of made-up rows, and what is found out about them."""

import csv
import io
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine.inspection.data import inspect_data
from engine.tables.read import first_rows, open_source
from engine.tables.table import Table
from recommender.facts import DataFacts
from tests.conftest import put_rows

ROWS = 60
WORDS = "time person year way day thing man world life hand part child eye woman place work week case point group".split()  # noqa: SIM905
Make = Callable[[int, random.Random], Any]


def prose(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def read_table(name: str, columns: Iterable[str] | None = None) -> Table:
    """All rows of a file; of its columns at least these."""
    source = open_source(name)
    return first_rows(source if columns is None else source.only(columns), None)


def looked(path: Path, **options: Any) -> DataFacts:
    return DataFacts.model_validate(inspect_data({"train": str(path), **options})["facts"])


def write(folder: Path, name: str, make: Make, header: list[str] | None = None) -> Path:
    """A file of `ROWS` rows: objects for json lines, lists for separated values."""
    rng = random.Random(0)
    rows = [make(i, rng) for i in range(ROWS)]
    path = folder / name
    if name.endswith(".jsonl"):
        put_rows(path, rows)
        return path
    out = io.StringIO(newline="")
    delimiter = "\t" if name.endswith(".tsv") else ";" if "semicolon" in name else "|" if "bar" in name else ","
    csv.writer(out, delimiter=delimiter).writerows([*([header] if header else []), *rows])
    path.write_text(out.getvalue())
    return path


def talk(rng: random.Random, who: str = "role", said: str = "content", names: tuple[str, str] = ("user", "assistant")) -> Any:
    return [{who: names[0], said: prose(rng)}, {who: names[1], said: prose(rng, 20)}]
