"""How long a decision takes, flip conditions included: every situation of the tests, from facts to recommendation.

    python -m benchmarks.decision_time            prints the figures and writes benchmarks/results/decision_time.json
"""

import json
import platform
import statistics
import sys
import time
from pathlib import Path

from recommender.decide import recommend
from recommender.facts import Facts

ROOT = Path(__file__).parents[1]
REPEATS = 7
WRITTEN = ROOT / "benchmarks" / "results" / "decision_time.json"


def milliseconds(facts: Facts) -> dict[str, float]:
    """The median of some repeats: by the wall clock, and of the processor, which other programs on the machine disturb less."""
    wall, own = [], []
    for _ in range(REPEATS):
        started, worked = time.perf_counter(), time.process_time()
        recommend(facts)
        wall.append(1000 * (time.perf_counter() - started))
        own.append(1000 * (time.process_time() - worked))
    return {"wall": statistics.median(wall), "processor": statistics.median(own)}


def main() -> None:
    """Time every situation."""
    taken = {}
    for path in sorted((ROOT / "tests" / "recommender" / "situations").glob("*.json")):
        facts = Facts.model_validate(json.loads(path.read_text(encoding="utf-8"))["facts"])
        recommend(facts)
        taken[path.stem] = milliseconds(facts)
    found = {
        "what": "milliseconds of one recommend(facts), flip conditions and reasons included",
        "situations": len(taken),
        "repeats": REPEATS,
        "python": platform.python_version(),
        "machine": {"processor": platform.machine(), "system": sys.platform},
    }
    for clock in ("wall", "processor"):
        values = sorted(t[clock] for t in taken.values())
        slowest = max(taken, key=lambda name: taken[name][clock])
        found[clock] = {
            "median": round(statistics.median(values), 2),
            "p95": round(values[int(0.95 * len(values))], 2),
            "slowest": round(values[-1], 2),
            "slowest_situation": slowest,
        }
    WRITTEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
