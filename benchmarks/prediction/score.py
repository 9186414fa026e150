"""Predictions against steps measured on a GPU (`python -m benchmarks.gpu`): results/gpu-memory.json.

    python -m benchmarks.prediction.score [FILE]         prints a line a cell, writes results/prediction_gpu.json

Nothing in the predictor was fitted to these cells: its facts are read in sources and checked kernel by kernel, apart.
"""

import argparse
import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from engine.installed import own_code
from engine.worker.tracing.again import Again
from engine.worker.tracing.estimate import ALLOCATED, FITTING, estimate
from engine.worker.tracing.live import Live
from recommender.errors import LoracleError
from recommender.facts import Facts
from recommender.memory import USABLE_TRACED

RESULTS = Path(__file__).parents[1] / "results"
CONTEXT = 800_000_000
"""Bytes that a process holds on that card beside the allocator."""
CHUNK = 2048
"""Tokens whose logits the engine took at once when the cells were measured."""


LAUNCH = 4.4e-5
"""Seconds of that card's host for an operation, nearly twice the usual: of the small steps of four of the models, without
checkpointing (40 to 49). A machine that is not known is scored without (`--usual-host`)."""


def facts_of(content: dict[str, Any], cell: dict[str, Any]) -> Facts:
    """The facts that a person would write down who wants to know about that cell."""
    step = dict(cell["step"])
    if cell["loop"] == "engine":  # which `installed` prepares as the engine of that day did
        step |= {"loss": "chunked", "kbit_prepared": False if step["method"] == "qlora" else None}
    if step["method"] == "qlora":
        step |= {"compute_dtype": step["base_dtype"]}  # `benchmarks.gpu.models.quantize`
    machine = content["machine"]
    device = {"name": machine["gpu"], "compute_capability": machine["capability"], "memory_total": machine["memory"]}
    config = content["models"][cell["model"]]["config"]
    facts: dict[str, Any] = {"machine": {"backend": "cuda", "devices": [device]}, "model": {"config": config}}
    facts["measured"] = {"launch": content.get("launch")}
    if step["head"] == "causal_lm" and "learned" in cell:
        facts["data"] = {"tokens_total": sum(cell["rows"]), "trained_tokens": sum(cell["learned"])}
    return Facts.model_validate(facts | {"step": step})


def outdated(cell: dict[str, Any]) -> bool:
    """Whether the engine took that step as it no longer does: a chunk's gradient was kept until the next one's was there."""
    return bool(cell["loop"] == "engine" and cell["step"]["head"] == "causal_lm" and sum(cell["learned"]) > CHUNK)


@contextlib.contextmanager
def installed(versions: dict[str, Any]) -> Iterator[None]:
    """Within it a trace finds what the cells were measured with.

    Before torch 2.12 `varlen_attn` knew no grouped heads. The benchmark looks on at a cell's first step, to see which attention
    is called, so that autograd adds its gradients out of place there. The engine of that day took the logits of 2,048 tokens at
    once, prepared 4-bit models with peft's function, computed a last layer for every token and kept what it gave during the loss.
    """
    from peft import prepare_model_for_kbit_training
    from torch.nn.attention import varlen

    from engine.worker import adapters, causal, first_token, modeling, token_loss
    from engine.worker.inner import body_of

    usual = varlen.varlen_attn

    def older(*given: Any, scale: Any = None, window_size: Any = None) -> Any:
        return usual(*given, scale=scale, window_size=window_size)

    alone = Live._sums_gradients

    def unwatched(live: Live, func: Any, args: Any) -> bool:
        return not live.recorded.phases[-1][0].startswith("first") and alone(live, func, args)

    adapted = adapters.with_adapters

    def prepared(model: Any, task: Any, head: list[str]) -> Any:
        if task.plan.method == "qlora":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        return adapted(model, task, head)

    def held(model: Any, batch: Any) -> Any:  # all hidden states, for as long as the loss is computed
        hidden = body_of(model)(**batch.inputs).last_hidden_state[0]
        return token_loss.token_loss(hidden.index_select(0, batch.predicting), token_loss.head_of(model), batch.targets)

    def chunk(*_: Any) -> int:  # a mock that returns a value would hold what it is given
        return CHUNK

    before = tuple(int(n) for n in str(versions["torch"]).split(".")[:2]) < (2, 12)
    with (
        mock.patch.object(varlen, "varlen_attn", older if before else usual),
        mock.patch.object(Live, "_sums_gradients", unwatched),
        mock.patch.object(Again, "write", return_value=False),  # so that steps differ
        mock.patch.object(token_loss, "_chunk_of", chunk),
        mock.patch.object(first_token, "possible", return_value=False),
        mock.patch.object(causal, "packed_loss", held),
        mock.patch.object(modeling, "with_adapters", prepared),
    ):
        yield


def scored(content: dict[str, Any], cell: dict[str, Any]) -> dict[str, Any] | None:
    """Predicted and measured, and the error of the one in hundredths of the other; `None` where there is no truth."""
    if cell["result"] != "ok":
        return None
    try:
        with installed(content["machine"]):
            found = estimate(facts_of(content, cell))
    except LoracleError as error:
        return {"key": cell["key"], "cannot": error.message}
    truth = cell["measured"]
    phases = found["phases"] | {"forward": max(found["phases"]["forward"], found["phases"]["loss"])}  # measured as one
    seconds = sorted(truth["seconds_per_step"])
    second = seconds[len(seconds) // 2] if seconds else None
    return {
        "key": cell["key"],
        "allocated": _against(found["allocated"], max(truth["allocated"]["peak"], *truth["first_step"].values())),
        "reserved": _against(found["reserved"], truth["reserved"]),
        "device": _against(found["device"], truth["device"]),
        "phases": {p: round(100 * (phases[p] / b - 1), 2) for p, b in truth["allocated"].items() if p in phases},
        "seconds": _against(found["seconds_per_step"], second) if second else None,
    }


def _against(interval: dict[str, float], truth: float) -> dict[str, Any]:
    error = 100 * (interval["predicted"] / truth - 1)
    return {
        "predicted": interval["predicted"], "measured": truth, "error": round(error, 2),
        "covered": interval["low"] <= truth <= interval["high"],
        "width": round(100 * (interval["high"] - interval["low"]) / truth, 1),
    }  # fmt: skip


CARDS = (6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80)
"""Memories of cards in GB, against which each step is held."""


def decisions(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What a plan would have said of each step on cards of many sizes: by its interval, as `recommender.memory` decides.

    The truth is whether tensors and the context find room; what the allocator keeps beyond that it gives back when it must.
    """
    right = doubtful = false_fits = total = 0
    for row in rows:
        low = ALLOCATED[0] * row["allocated"]["predicted"] + CONTEXT
        high = FITTING * row["allocated"]["predicted"] + CONTEXT
        for free in (1e9 * size for size in CARDS):
            total += 1
            fits = row["allocated"]["measured"] + CONTEXT <= free
            said = high <= USABLE_TRACED * free
            unsure = not said and low <= free
            doubtful += unsure
            right += not unsure and said == fits
            false_fits += said and not fits
    return {"cases": total, "right": right / total, "doubtful": doubtful / total, "false_fits": false_fits / total}


def spread(errors: list[float]) -> dict[str, float]:
    """Number, median, 90th percentile and worst of the errors' sizes, in hundredths."""
    sizes = sorted(map(abs, errors))
    ninety = sizes[min(int(0.9 * len(sizes)), len(sizes) - 1)]
    return {"n": len(sizes), "median": median(sizes), "p90": ninety, "worst": sizes[-1]}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The distribution of errors: medians, 90th percentiles, shares too low, coverage."""
    if not rows:
        return {}
    found: dict[str, Any] = {"cells": len(rows), "decisions": decisions(rows)}
    for name in ("allocated", "reserved", "device", "seconds"):
        errors = [r[name]["error"] for r in rows if r.get(name)]
        if not errors:
            continue
        found[name] = spread(errors) | {
            "more_than_2_too_low": sum(e < -2 for e in errors) / len(errors),
            "more_than_5_too_low": sum(e < -5 for e in errors) / len(errors),
            "covered": sum(r[name]["covered"] for r in rows if r.get(name)) / len(errors),
            "width": median(r[name]["width"] for r in rows if r.get(name)),
        }
    return found


def main() -> None:
    """Score every cell of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=RESULTS / "gpu-memory.json")
    parser.add_argument("--only", default="", help="cells whose key has this in it")
    parser.add_argument("--usual-host", action="store_true", help="as of a machine whose host nobody has measured")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS / "prediction_gpu.json")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    content, code = json.loads(given.file.read_text()), own_code()
    content |= {} if given.usual_host else {"launch": LAUNCH}
    known: dict[str, Any] = json.loads(given.output.read_text()) if given.output.exists() else {}
    scored_before = {r["key"]: r for r in known.get("cells", ()) if known.get("code") == code}  # else by another predictor
    rows = []
    for cell in content["results"]:
        # Rows of unequal length are cut into several micro-batches; the cell's step tells of all of them together.
        if given.only not in cell["key"] or "ragged" in cell["key"]:
            continue
        row = scored_before.get(cell["key"]) or scored(content, cell)
        if row is None:
            continue
        rows.append(row | {"loop": cell["loop"], "older_engine": outdated(cell)})
        print(json.dumps({k: (v["error"] if isinstance(v, dict) and "error" in v else v) for k, v in row.items()}), flush=True)
        told = [r for r in rows if "cannot" not in r]
        result = {
            "machine": content["machine"],
            "code": code,
            "summary": summary([r for r in told if not r["older_engine"]]),
            "older_engine": summary([r for r in told if r["older_engine"]]),
            "cells": rows,
        }
        given.output.write_text(json.dumps(result, indent=0) + "\n")
    print(json.dumps({name: result[name] for name in ("summary", "older_engine")}, indent=1))


if __name__ == "__main__":
    main()
