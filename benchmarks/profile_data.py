"""What it takes to find the facts of 1,000,000 short rows (about 200 MB): seconds, processor seconds and memory.

    python -m benchmarks.profile_data --work runs-bench/profile-data

The same rows are written as csv, jsonl and parquet, then `inspect_data` looks at each, as the program does: in a child,
with progress, tokens counted by the demo model's own tokenizer, nothing remembered. Memory is the child's peak.
Targets on two free cores: 30 seconds, 1 GB. On a busy machine the processor seconds say more than the others.
"""

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.command_line import command_line, keep
from benchmarks.paired import machine

ROWS = 1_000_000
FORMATS = ("csv", "jsonl", "parquet")
SMALL = (
    "the of and to a in is it you that he was for on are with as his they be at one have this from or had by hot but some"
    " what there we can out other were all your when up use word how said an each she which do their time if will way about"
)


def rows(count: int) -> tuple[list[str], list[str]]:
    """Texts of 15 to 50 words, a third of them from a vocabulary of 20,000, and two labels."""
    draw = random.Random(0)
    small = SMALL.split()
    large = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    texts = []
    for _ in range(count):
        words = draw.randint(15, 50)
        texts.append(" ".join(draw.choices(small, k=words - words // 3) + draw.choices(large, k=words // 3)))
    return texts, [("positive", "negative")[i % 3 == 0] for i in range(count)]


def generate(folder: Path, count: int) -> None:
    """Write the rows in every format, unless they are there."""
    if all((folder / f"rows.{kind}").is_file() for kind in FORMATS):
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, labels = rows(count)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": t, "label": x}) + "\n" for t, x in zip(texts, labels, strict=True))
    pq.write_table(pa.table({"text": texts, "label": labels}), folder / "rows.parquet")


def look(path: Path) -> dict[str, Any]:
    """Seconds, processor seconds, peak memory and what was found; in a process of its own, so that only one child counts."""
    from engine.inspect import inspect_data, inspect_model

    model = inspect_model("demo").path
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    told = []
    facts = inspect_data(str(path), model_path=model, progress=lambda *step: told.append(step)).facts
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    inspect_data(str(path), model_path=model)
    return {
        "file_bytes": path.stat().st_size,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_rss_bytes": after.ru_maxrss * 1024,
        "seconds_when_remembered": round(time.perf_counter() - started, 1),
        "progress_reports": len(told),
        "rows": facts.rows,
        "tokens_total": facts.tokens_total,
        "tokens_origin": facts.tokens_origin,
    }


def main() -> None:
    """Generate, measure, print, and write the result beside the others."""
    parser = command_line(__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "loracle-profile-data")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(look(given.one)))
        return
    generate(given.work, given.rows)
    found = {}
    load = os.getloadavg()[0]
    for kind in FORMATS:
        with tempfile.TemporaryDirectory() as state:
            found[kind] = _apart(given.work / f"rows.{kind}", state)
    result = {
        "benchmark": "profile_data",
        "formats": found,
        "load_average_before": round(load, 1),
        "machine": machine(),
        "versions": {name: version(name) for name in ("pyarrow", "numpy", "tokenizers")},
    }
    keep(result, given.output, "profile_data")


def _apart(path: Path, state: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.profile_data", "--one", str(path)]
    done = subprocess.run(command, env=os.environ | {"LORACLE_STATE": state}, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


if __name__ == "__main__":
    main()
