"""`report.json`: what came out, what it is compared with, and how sure that is."""

import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from engine.events import Event, read_events
from engine.files import folder_size, read_json, write_atomically, write_json
from engine.installed import own_code
from engine.metrics import bootstrap
from engine.metrics.kinds import Kind
from engine.metrics.measures import Measure
from engine.rows import LEAST_DRAWN, Split
from engine.rundir import RunDirectory
from engine.text import one_line
from engine.worker import card_scores, forgetting, products
from engine.worker.card import model_card
from engine.worker.held_out import answers_in
from engine.worker.memory import counted_by, memory_peak
from engine.worker.mistakes import worst
from engine.worker.modeling import Built
from engine.worker.samples import side_by_side
from engine.worker.tasks.base import Task
from engine.worker.took import Log, in_report
from recommender.facts import Task as Work
from recommender.plan import Plan

COMPARED = ("before", "majority", "probe")
"""What the result is compared with: the untouched model, the best answer that looks at no text, a linear probe."""
LEAST_ANSWERS = 8
"""Of fewer rows all may well deserve the same answer."""
NOISE_OF_REWARDS = 0.05
"""Half a nat of a whole answer at the usual beta: less is no word worth."""


def write(
    run: RunDirectory,
    task: Task,
    parts: Split,
    built: Built,
    *,
    base: str,
    training: Mapping[str, Any],
    fit: Mapping[str, float],
    expected: Mapping[str, Any],
) -> None:
    """Put together the report from the scores kept in the run and the facts of its training; the model's card says them, too."""
    plan, kind = task.plan, task.kind
    files = {name: run.scores / f"{name}.json" for name in (*COMPARED, "after")}
    kept = {name: read_json(file, None) for name, file in files.items() if file.exists()}
    scores = {name: content["score"] for name, content in kept.items()}
    gains = {
        name: bootstrap.gain(kind, kept["after"]["truth"], answers_in(kept[name]), answers_in(kept["after"]), plan.seed)
        for name in COMPARED
        if name in kept and "after" in kept and len(parts.held_out) >= LEAST_DRAWN
    }
    forgotten = forgetting.compared(run, plan.seed)
    log = Log(read_events(run.events))
    events = log.told
    validation = [e for e in events if e["kind"] == "evaluation" and e.get("split") == "validation"]
    chosen_by = next((e["metrics"]["loss"] for e in reversed(validation) if e["step"] == training["best_step"]), None)
    said = one_answer(plan.task, parts.labels, kept.get("after"), too_fast=went_too_fast(events))
    said += too_few(len(parts.held_out)) + counted(plan.task, scores, len(parts.held_out)) + statements(kind, gains, scores)
    said += [forgetting.statement(forgotten)] if forgotten else []
    said += kept_together(parts.counts, len(set(parts.held_out.named or ())))
    scored = card_scores.Scored(scores, gains, said)
    write_atomically(run.model / "README.md", model_card(task, parts, built, base, scored), 0o600)
    write_json(
        run.report_file,
        {
            "version": 1,
            "name": run.name,
            "method": plan.method,
            "precision": plan.precision,
            "model": plan.model.id,
            "data": plan.data.train,
            "labels": parts.labels,
            "rows": {"train": len(parts.train), "validation": len(parts.validation), "held_out": len(parts.held_out)},
            "scores": scores,
            "gains": gains,
            "forgetting": forgotten,
            "statements": said,
            "memory": {
                "predicted": expected.get("memory"),
                "probed": probed(events),
                "peak": max(memory_peak(), log.memory),  # of this worker, or what an earlier one of the run has shown
                "by": counted_by(),
            },
            "predictor": own_code(),
            **in_report(log, training["total_steps"], expected),
            "fit": {**fit, "validation_loss": chosen_by},
            **{k: training[k] for k in ("steps", "total_steps", "best_step", "stopped_early", "lost", "left_out")},
            "samples": side_by_side(run),
            "worst": worst(plan.task, parts.labels, parts.held_out, kept.get("after", {})),
            "trained_parameters": built.trained,
            "parameters": built.parameters,
            "trained": plan.trained,
            "model_folder": "model",
            "model_bytes": folder_size(run.model),
            "warnings": list(dict.fromkeys(e.get("text", "") for e in events if e["kind"] == "warning")),  # once, though resumed
            "recoveries": [e.get("text", "") for e in events if e["kind"] == "recovery"],
            "computing": computing(plan, events, packed=task.packed),
            "overrides": plan.overrides,
            "validation": [
                {"step": e["step"], **{k: e["metrics"][k] for k in kind.measures if k in e["metrics"]}} for e in validation
            ],
        },
    )


def kept_together(counts: Mapping[str, int], held_out: int = 0) -> list[str]:
    """What the split did with rows that share a question, in a sentence; or with groups that a person named, of which so many are
    held out."""
    if counts.get("groups"):
        if unknown := counts.get("groups_unknown"):
            return [f"Held-out rows that name no group: {unknown:,}. Whether theirs are trained on is not known."]
        apart = "" if counts.get("groups_seen") else ", none of them on two sides"
        drawn = "intervals draw whole groups" if held_out >= LEAST_DRAWN else "too few to draw, so intervals draw their rows"
        return [f"The rows are of {counts['groups']:,} groups{apart}; {held_out:,} are held out: {drawn}."]
    if not counts.get("together") or counts.get("torn") or counts.get("seen"):
        return []
    shared = f"{counts['together']:,} rows share their question, or their first message or text, with others"
    return [f"{shared}; none is on two sides, and intervals draw them together."]


def computing(plan: Plan, events: Sequence[Event], *, packed: bool) -> dict[str, Any]:
    """How the steps were computed: `padded`, `allocator` (kept, segments, or None for the system's own), `products` (in fp32 on a
    CPU: onednn, or None for torch's usual library), `compile`, `kernels`.

    What was taken out of the model on the way counts as not used.
    """
    allocator = None
    if torch.cuda.is_available():
        allocator = "segments" if "expandable_segments:True" in os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "") else None
    elif sys.platform == "linux" and os.environ.get("MALLOC_MMAP_MAX_") == "0":
        allocator = "kept"
    changed = {name: value for e in events if e["kind"] == "recovery" for name, value in (e.get("after") or {}).items()}
    used = {name: changed.get(name, getattr(plan, name)) for name in ("compile", "kernels")}
    ours = plan.precision == "fp32" and not torch.cuda.is_available() and products.in_use() == "onednn"
    return {"padded": not packed, "allocator": allocator, "products": "onednn" if ours else None, **used}


def probed(events: Sequence[Event]) -> int | None:
    """Peak memory in bytes as it was tried before the first step; the most of several workers'."""
    return max((int(e.get("probed") or 0) for e in events if e["kind"] == "preflight"), default=None)


def too_few(rows: int) -> list[str]:
    """That so few held-out rows prove nothing, in a sentence: drawn anew they would seem to be sure of it."""
    if not 0 < rows < LEAST_DRAWN:
        return []
    some = "One row was held out" if rows == 1 else f"{rows} rows were held out"
    return [f"{some}: too few to say whether anything was gained."]


def counted(work: Work, scores: Mapping[str, Mapping[str, Any]], rows: int) -> list[str]:
    """How many rows are right, in a sentence for those who know no metric."""
    known = [scores[name]["accuracy"] for name in ("after", "majority") if "accuracy" in scores.get(name, ())]
    if work != "classification" or len(known) < 2 or rows < LEAST_DRAWN:
        return []
    right, constant = (round(share * rows) for share in known)
    guessed = "always predicting the most common class would be right for"
    return [f"{right} of the {rows} held-out rows are right; {guessed} {constant}."]


def went_too_fast(events: Sequence[Event]) -> bool:
    """Whether the learning rate was most likely too high."""
    return any(e["kind"] == "warning" and e.get("code") in ("learning_rate_high", "diverging", "forgot") for e in events)


def one_answer(task: Work, labels: Sequence[str], after: Mapping[str, Any] | None, *, too_fast: bool = False) -> list[str]:
    """That a model says the same whatever it reads, in a sentence: its scores are then those of a constant.

    Not where all rows deserve the same. What helps is another thing where the training went `too_fast`.
    """
    if after is None or len(after["predicted"]) < LEAST_ANSWERS:
        return []
    given, truth = after["predicted"], after["truth"]
    cure = "it does not tell them apart yet. Try more epochs or more rows first."
    if too_fast:
        cure = "the training went wrong. Try a lower learning_rate first."
    if task == "classification" and len(set(given)) == 1 < len(set(truth)):
        return [f"The model predicts {one_line(labels[given[0]], 60)} for every held-out row: {cure}"]
    if task == "multi_label" and any(truth) and not any(given):
        return [f"The model gives no held-out row any label: {cure}"]
    tags = {tag for row in given for tag in row if tag >= 0} if task == "token_classification" else set()
    if len(tags) == 1 and any(tag >= 0 and tag not in tags for row in truth for tag in row):
        return [f"The model gives every held-out word the tag {one_line(labels[tags.pop()], 60)}: {cure}"]
    return []


def _statement(measure: Measure, gain: Mapping[str, float], compared: str) -> str:
    """Whether that is better, worse, or may be chance."""
    size, low, high = (measure.difference(gain[k]) for k in ("gain", "low", "high"))
    if gain["gain"] == 0:
        unit = " points" if measure.points else ""
        return f"No difference in {measure.words} against {compared} on these rows (95% interval {low} to {high}{unit})."
    span = f"{size} {'points of ' if measure.points else ''}{measure.words} against {compared} (95% interval {low} to {high})"
    if gain["low"] > 0 or gain["high"] < 0:
        word = "Better" if (gain["low"] > 0) is measure.higher_is_better else "Worse"
        return f"{word}: {span}."
    return f"Not shown to differ: {span}; the interval contains zero, so this may be chance."


def statements(kind: Kind, gains: Mapping[str, Any], scores: Mapping[str, Any]) -> list[str]:
    """What the numbers mean, in sentences; said plainly where a gain may be chance."""
    said = []
    told: Mapping[str, Any] = next(iter(gains.values()), {})
    first = next(name for name in kind.measures if name != "loss" and (name in told or not told))
    named = {
        "before": "the untouched model",
        "majority": kind.constant_words,
        "probe": "a linear probe on the untouched model's embeddings",
    }
    for name, by in itertools.product(named, kind.told or (first,)):
        if by not in gains.get(name, ()):
            continue
        said.append(_statement(kind.measures[by], gains[name][by], named[name]))
    if "probe" in gains and any(s.startswith("Worse") and named["probe"] in s for s in said):
        said.append("The linear probe is better and costs seconds: use it, or give the fine-tune more data.")
    rewards = {name: scores[name]["chosen_reward"] for name in scores if "chosen_reward" in scores[name]}
    if rewards.get("after", 0.0) < -NOISE_OF_REWARDS:
        said.append(
            f"The chosen answers have become less likely too (mean reward {rewards['after']:+.3f}):"
            " common with preferences; look at the sample answers, and raise preference_beta if they got worse."
        )
    if not scores:
        said.append("No rows were held out, so the gain is unknown.")
    return said
