"""Figures that others measured and published, beside what `estimate` says of them: `published*.json`.

    python -m benchmarks.prediction.published [WORDS]        writes results/published.json; only what is lacking, or what is named

Each step says where it is from, what is told there and what is not, and when it was gathered. What is not told is traced with
every value it may have, as `estimate` does for any facts; where the length is not told, with the shortest and the longest, and
where another choice is not that a step has to say, with `either`.
Nothing was fitted to these. A published figure counts as met where the interval holds it, or, where it is told as a range, meets
the range. `blind` in the results is the prediction made before anything was changed after the figure was gathered.
"""

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

from benchmarks.command_line import words
from benchmarks.prediction import models
from engine.files import write_atomically
from engine.worker.tracing.estimate import estimate
from recommender.errors import LoracleError
from recommender.facts import Facts

HERE = Path(__file__).parent
FILES = ("published.json", "published_times.json", "published_blind.json", *(f"published_blind{n}.json" for n in range(2, 10)))
"""Memory, and seconds of a step; both of steps gathered later, nine times, each predicted before the predictor was touched."""
RESULTS = HERE.parent / "results" / "published.json"
TIME = "seconds_per_step"
FITS = "fits"
"""Whether the step found room; 1 and 0 are told of it, a half where the prediction is doubtful."""
ROOM = {"fits": 1.0, "doubtful": 0.5, "does_not_fit": 0.0}


def steps() -> list[dict[str, Any]]:
    """Every published step, with its figures by measure."""
    found = []
    for entry in [entry for file in FILES for entry in json.loads((HERE / file).read_text())]:
        for row in entry.get("rows", [entry]):
            figures = row["published"] if isinstance(row["published"], dict) else {row["measure"]: row["published"]}
            figures = {name: [float(told)] * 2 if name == FITS else told for name, told in figures.items()}
            known = {name: value for name, value in (entry["step"] | row["step"]).items() if value is not None}
            found.append(entry | row | {"step": known, "published": figures})
    return found


def key_of(step: dict[str, Any], measure: str) -> str:
    """What a figure is called in the results."""
    return f"{step['source']}: {step['name']}, {measure}"


def predicted(row: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Least, most and the middle of what the step may take, by measure, in bytes and seconds.

    Raises:
        LoracleError: it cannot be predicted.
    """
    machine = {"backend": "cuda", "devices": [{"name": row["card"], "memory_total": row.get("memory", 80 * 10**9)}]}
    measured = {"memory_profile": {"context": row["context"]}} if "context" in row else {}
    told = []
    facts = {"machine": machine, "model": {"config": getattr(models, row["model"])}, "measured": measured}
    for length, choice in itertools.product(row["lengths"], row.get("either", [{}])):
        told.append(estimate(Facts.model_validate(facts | {"step": row["step"] | choice | {"length": length}})))
    return {measure: _over([one[measure] for one in told]) for measure in row["published"]}


def _over(spans: list[dict[str, Any]]) -> dict[str, float]:
    if "verdict" in spans[0]:
        said = {ROOM[span["verdict"]] for span in spans}
        return dict.fromkeys(("predicted", "low", "high"), said.pop() if len(said) == 1 else ROOM["doubtful"])
    middle = sum(span["predicted"] for span in spans) / len(spans)
    return {"predicted": middle, "low": min(s["low"] for s in spans), "high": max(s["high"] for s in spans)}


def judged(measure: str, span: dict[str, float], published: list[float]) -> dict[str, Any]:
    """How a prediction compares with a published range: its error in hundredths of the middle, and whether they meet. A doubtful
    answer is 50 off, and meets none."""
    least, most = published
    error = round(100 * (span["predicted"] / ((least + most) / 2) - 1 if measure != FITS else span["predicted"] - most), 1)
    return span | {"published": published, "error": error, "inside": span["low"] <= most and least <= span["high"]}


def main() -> None:
    """Predict what is lacking, and print the table."""
    warnings.simplefilter("ignore")
    only = words(__doc__)
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for row in steps():
        keys = {measure: key_of(row, measure) for measure in row["published"]}
        if any((only and only in key) or key not in known for key in keys.values()):
            try:
                told = predicted(row)
            except LoracleError as error:
                print(f"| {row['source']} | {row['name']} | {error} |", flush=True)
                continue
            for measure, key in keys.items():
                found = judged(measure, told[measure], row["published"][measure])
                blind = known.get(key, {"blind": found} if "gathered" in row else {}).get("blind")
                known[key] = found | ({} if blind is None else {"blind": blind})
            lines = (f"{json.dumps(key)}: {json.dumps(told)}" for key, told in known.items())
            write_atomically(RESULTS, "{\n" + ",\n".join(lines) + "\n}\n", 0o644)
        for measure, key in keys.items():
            _print(row, measure, known[key])
    first = {key: found["blind"] for key, found in known.items() if "blind" in found}
    for when, figures in (("now", known), ("blind", first)):
        for name, summary in distribution(figures).items():
            print(f"| {when} | {name} | " + " | ".join(summary) + " |")


def distribution(known: dict[str, Any]) -> dict[str, list[str]]:
    """Of each source and measure: how many figures, how many inside, and the error's median, 90th percentile, least and most."""
    sources: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in steps():
        for measure in row["published"]:
            told = known.get(key_of(row, measure))
            if told is not None:
                kind = {TIME: "seconds", FITS: FITS, "allocated": "allocated"}.get(measure, "reserved and device")
                sources.setdefault((row["source"], kind), []).append(told)
    table = {}
    for (source, kind), told in sources.items():
        errors = sorted(one["error"] for one in told)
        sizes = sorted(abs(error) for error in errors)
        inside = sum(one["inside"] for one in told)
        ninth = sizes[min(int(0.9 * len(sizes)), len(sizes) - 1)]
        table[f"{source} | {kind}"] = [
            f"{inside} of {len(told)}", f"{sizes[len(sizes) // 2]:.1f}", f"{ninth:.1f}", f"{errors[0]:.1f} to {errors[-1]:.1f}"
        ]  # fmt: skip
    return table


def _print(row: dict[str, Any], measure: str, found: dict[str, Any]) -> None:
    unit, digits = (1.0, 3) if measure in {TIME, FITS} else (1e9, 1)
    low, high, middle = (f"{found[end] / unit:.{digits}f}" for end in ("low", "high", "predicted"))
    published = f"{sum(found['published']) / 2 / unit:.{digits}f}"
    said = "yes" if found["inside"] else "no"
    print(f"| {row['source']} | {row['name']} | {measure} | {published} | {middle} ({low} to {high}) | {said} |", flush=True)


if __name__ == "__main__":
    main()
