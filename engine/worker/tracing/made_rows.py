"""A micro-batch of rows of given lengths, made up: what it says does not matter, only which tokens carry loss."""

from typing import Any

from engine.worker.batches import LogicalBatch
from engine.worker.packing import IGNORED


def made_batch(
    task: str,
    head: str,
    lengths: list[int],
    labels: list[str],
    learned: float,
    *,
    read: float,
    alike: bool,
    longest: float = 1.0,
) -> LogicalBatch:
    """Rows of those lengths, with targets that the task reads; of preferences two sequences are a pair. Of what an
    encoder-decoder reads and of what it writes one row has `longest` times the mean: the others are padded to it."""
    if task == "preference":
        pairs = [lengths[i : i + 2] for i in range(0, len(lengths), 2)]
        said = [[_learned(n, learned) for n in pair] for pair in pairs]
        targets = [
            {"labels": [t for side in sides for t in side], "chosen": pair[0], "reference": [0.0] * 2}
            for pair, sides in zip(pairs, said, strict=True)
        ]
        return LogicalBatch([_pair(pair, i, _silent(pair[1], learned) if alike else 0) for i, pair in enumerate(pairs)], targets)
    if head == "seq2seq":
        asked, written = (_uneven([_share(n, share) for n in lengths], longest, max(lengths)) for share in (read, learned))
        return LogicalBatch([_ids(n, i) for i, n in enumerate(asked)], [[1] * n for n in written])
    return LogicalBatch([_ids(n, i) for i, n in enumerate(lengths)], [_target(task, n, labels, learned) for n in lengths])


def _ids(length: int, number: int) -> list[int]:
    """A row that begins like none before it: what rows share would be read once, and less memory taken."""
    return [1 + number % 32, *[1] * (length - 1)][:length]


def _pair(lengths: list[int], number: int, known: int) -> list[int]:
    """Both sequences end to end; the second begins with so many tokens of the first."""
    first = _ids(lengths[0], 2 * number)
    return first + ([*first[:known], *[2] * (lengths[1] - known)] if known else _ids(lengths[1], 2 * number + 1))


def _target(task: str, length: int, labels: list[str], learned: float) -> Any:
    if task == "classification":
        return 0
    if task == "regression":
        return 0.0
    if task == "multi_label":
        return [0.0] * max(len(labels), 1)
    if task == "token_classification":
        places = list(range(length))
        return {"places": places, "words": places, "tags": [0] * length, "count": length}
    return _learned(length, learned)


def _learned(length: int, share: float) -> list[int]:
    """Labels of a row of which that share carries loss."""
    silent = _silent(length, share)
    return [IGNORED] * silent + [1] * (length - silent)


def _silent(length: int, share: float) -> int:
    return length - _share(length, share)


def _uneven(counts: list[int], times: float, most: int) -> list[int]:
    """About as many in all, the first so many times the mean of them, but no more than `most`."""
    mean, others = sum(counts) / len(counts), len(counts) - 1
    if not others:
        return counts
    first = min(round(times * mean), most)
    return [first, *[max(round(mean - (first - mean) / others), 1)] * others]


def _share(length: int, share: float) -> int:
    return max(round(share * length), 1)
