"""Answers as runs keep them in `scores/*.json`: of several folds in one piece, of several runs on the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.metrics.kinds import Answers, Kind

Kept = Mapping[str, Any]
"""The content of one such file."""


def joined(kept: Sequence[Kept]) -> Answers:
    """The answers that several files of scores hold, one after the other; a file without weights has rows that count one each."""
    weighted = any(fold["weights"] is not None for fold in kept)
    grouped = any(fold.get("groups") is not None for fold in kept)  # older files have none
    places: dict[tuple[int, int], int] = {}
    own = [(n, g) for n, fold in enumerate(kept) for g in fold.get("groups") or range(len(fold["predicted"]))]
    return Answers(
        [p for fold in kept for p in fold["predicted"]],
        [x for fold in kept for x in fold["losses"]],
        [w for fold in kept for w in fold["weights"] or [1.0] * len(fold["losses"])] if weighted else None,
        [places.setdefault(group, len(places)) for group in own] if grouped else None,
    )


def paired(kind: Kind, runs: Sequence[Sequence[Kept]]) -> tuple[list[Any], list[Answers]] | None:
    """Truth and what each run answered, as far as all of them did; `None` where their rows are not the same.

    A run has several files where it is one in folds.
    """
    found = [joined(folds) for folds in runs]
    truths = [[true for fold in folds for true in fold["truth"]] for folds in runs]
    if len({len(truth) for truth in truths}) > 1:
        return None
    given = [(truth, answers.predicted) for truth, answers in zip(truths, found, strict=True)]
    common = kind.in_common(given, alike=True)
    if any(truth != common[0][0] for truth, _ in common):
        return None
    if len({_cut_at(fold) for folds in runs for fold in folds}) > 1:
        common = kind.in_common(given, alike=False)
    return list(common[0][0]), [replace(a, predicted=said) for a, (_, said) in zip(found, common, strict=True)]


def _cut_at(kept: Kept) -> int | None:
    """The tokens after which a slow machine ended its answers; `None` where they could be as long as they wanted."""
    written = kept.get("written") or {}
    return written.get("tokens") if written.get("cut", True) else None
