"""What a model's card says of scores: for people in words and a table, for programs as the hub's `model-index`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.inspection.hub_list import hub_data
from engine.metrics.kinds import Kind
from engine.metrics.measures import Measure
from engine.tables.split_names import split_named
from engine.text import one_line
from recommender.plan import DataChoice

HEADING = "## How good it is\n"
OF_ADAPTER = "The scores are the adapter's, on its base, before it was merged: the merged weights were not scored again.\n"
"""Stands first under the heading of a merged model's card."""
NOT_YET = "It had not been scored yet when this was written.\n"
NO_ROWS = "No rows were held out, so it was not scored.\n"
FEWER = ("chrf", "exact_answer")
"""Of the rows for which an answer was written."""
HUB_METRICS = {
    "macro_f1": "f1", "micro_f1": "f1", "span_f1": "f1", "token_accuracy": "accuracy", "reward_accuracy": "accuracy",
    "exact_answer": "exact_match", "pearson": "pearsonr", "r2": "r_squared",
}  # fmt: skip
"""What the hub calls a metric that it does not call by our name; what it knows nothing of keeps that."""
_HUB_ID = re.compile(r"(?:[\w-]+/)?[\w.-]+", re.ASCII)
"""What the hub takes for the id of a data set: a card with another is refused."""
_MARKDOWN, _ESCAPED = re.compile(r"([\\`*_\[\]<>])"), r"\\\1"
"""What a label may hold that would be more than text."""
_INDEX = re.compile(r"^model-index:\n(?:(?:- |  ).*\n)*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Scored:
    """What a run's report says of its scores."""

    scores: Mapping[str, Mapping[str, Any]]
    """Those of `before` and `after`, at least."""
    gains: Mapping[str, Mapping[str, Mapping[str, float]]]
    statements: Sequence[str]


def section(kind: Kind, choice: DataChoice, rows: int, scored: Scored | None) -> str:
    """The card's section, as Markdown; of a model that is not `scored` yet it says so."""
    if not rows or scored is None or "after" not in scored.scores:
        return f"{HEADING}\n{NOT_YET if rows else NO_ROWS}"
    before, after = scored.scores.get("before", {}), scored.scores["after"]
    gains = scored.gains.get("before", {})
    names = [name for name in kind.measures if after.get(name) is not None]
    place, some = _place(choice).replace("`", "'"), "row" if rows == 1 else "rows"
    said = f"{HEADING}\nOn {rows:,} held-out {some} of `{place}`, before the training and (loaded from this folder) after it:\n\n"
    said += "| | before | after | difference (95% interval) |\n|---|---|---|---|\n"
    for name in names:
        measure = kind.measures[name]
        cells = [measure.words, _value(before.get(name)), _value(after[name]), _gain(measure, gains.get(name))]
        said += f"| {' | '.join(cells)} |\n"
    written = after.get("answers_written", rows)
    if written < rows:
        fewer = " and ".join(kind.measures[name].words for name in FEWER)
        said += f"\n{fewer} are of the {written:,} rows for which an answer was written.\n"
    return said + "\n" + "".join(f"- {_MARKDOWN.sub(_ESCAPED, one_line(text, 500))}\n" for text in scored.statements)


def results(kind: Kind, choice: DataChoice, pipeline: str, scored: Scored | None) -> list[Any]:
    """The scores of the result for `ModelCardData`, by the hub's names; none where there are none."""
    from huggingface_hub import EvalResult

    after = {} if scored is None else scored.scores.get("after", {})
    name = choice.eval or choice.train
    hub = hub_data(name)
    found = re.search(r"[/\\]snapshots[/\\]([0-9a-f]{40})[/\\]", name) if hub else None
    return [
        EvalResult(
            task_type=pipeline,
            dataset_type=hub if hub and _HUB_ID.fullmatch(hub) else "unknown",
            dataset_name=_place(choice),
            dataset_split=split_named(Path(name).name) if choice.eval else None,
            dataset_revision=found[1] if found else None,
            metric_type=HUB_METRICS.get(metric, metric),
            metric_name=f"{measure.words} (0 to 1)" if metric == "chrf" else measure.words,  # elsewhere it is told as 0 to 100
            metric_value=after[metric],
        )
        for metric, measure in kind.measures.items()
        if after.get(metric) is not None
    ]


def of_adapter(card: str) -> str:
    """The card of a model that an adapter was merged into: whose scores they are, and none for programs, which would not know."""
    if NOT_YET in card or NO_ROWS in card:
        return card
    return _INDEX.sub("", card, count=1).replace(f"{HEADING}\n", f"{HEADING}\n{OF_ADAPTER}", 1)


def _place(choice: DataChoice) -> str:
    """The name of the file, or of the hub's data set, that the held-out rows are of; its folders are nobody's business."""
    name = choice.eval or choice.train
    hub, file = hub_data(name), Path(name).name
    return one_line(f"{hub}, {file}" if hub else file, 120)


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 1e12 else f"{value:.3g}"


def _gain(measure: Measure, gain: Mapping[str, float] | None) -> str:
    if gain is None:
        return ""
    size, low, high = (measure.difference(gain[k]) for k in ("gain", "low", "high"))
    return f"{size}{' points' if measure.points else ''} ({low} to {high})"
