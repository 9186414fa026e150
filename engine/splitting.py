"""How rows are sampled and dealt out: seeded, stratified by label, whole groups on one side. The same for inspection and run."""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any

from engine.rows import Rows, united
from recommender.errors import InputError


def sample(rows: Rows, count: int | None, seed: int) -> Rows:
    """A seeded sample of `count` rows in the file's order; all rows when there are no more."""
    if count is None or count >= len(rows):
        return rows
    chosen = sorted(random.Random(seed).sample(range(len(rows)), count))
    return rows.take(chosen)


def put_aside(
    rows: int,
    held_out: int,
    train_rows: int | None,
    seed: int,
    *,
    labels: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
    named: Sequence[Hashable] | None = None,
) -> tuple[list[int], list[int]]:
    """Places of the rows that are trained on and of those held out, where both come from one file, in the file's order.

    Held out are as many of each class as its share is, where there are `labels`; `groups` tell which rows belong together:
    whole groups are held out, unless they are too large for that. Those that a person `named` are always whole. All may be
    hashes, which differ from process to process: what is drawn depends on which are equal, not on what they are.

    Raises:
        InputError: more than half would be held out, or none can be.
    """
    if held_out > rows / 2:
        raise InputError(f"--eval-rows is {held_out}, more than half of the {rows} rows there are; name a file with --eval.")
    place_of: dict[Hashable, int] = {}
    classes = [0] * rows if labels is None else [place_of.setdefault(label, len(place_of)) for label in labels]
    each = range(rows) if named is None else named
    both = each if groups is None else groups if named is None else united(groups, named)
    aside = _carved_places(classes, both, held_out, seed)
    if 2 * len(aside) < held_out:
        aside = _carved_places(classes, each, held_out, seed)
    if 2 * len(aside) < held_out and named is not None:
        aside = smallest_groups(classes, named, held_out)
    if held_out and not aside:
        kept = "each class keeps a row to train on, and groups stay whole"
        raise InputError(f"--eval-rows is {held_out}, and none can be held out: {kept}; name a file with --eval.")
    out = set(aside)
    rest = [i for i in range(rows) if i not in out]
    if train_rows is not None and train_rows < len(rest):
        rest = sorted(random.Random(seed).sample(rest, train_rows))
    return rest, aside


def carve(rows: Rows, count: int, seed: int, keys: Sequence[Hashable] | None = None) -> tuple[Rows, Rows]:
    """`count` rows taken out, stratified by label, whole groups at a time, by the rows' own keys or `keys`; and the rest.

    A class keeps at least one row on the side that stays. What the shares of the classes lack to whole rows goes to those that
    lack most (largest remainder), so that many small classes give `count` rows too.
    """
    return parted(rows, _carved_places(rows.labels, rows.keys() if keys is None else keys, count, seed))


def parted(rows: Rows, taken: Sequence[int]) -> tuple[Rows, Rows]:
    """The rows at these places, and the others."""
    chosen = set(taken)
    return rows.take(taken), rows.take([i for i in range(len(rows)) if i not in chosen])


def _carved_places(labels: Sequence[Any], keys: Sequence[Hashable], count: int, seed: int) -> list[int]:
    """Places of the rows that `carve` takes out, in order; rows of equal `keys` belong together."""
    if count <= 0 or len(labels) < 2:
        return []
    sizes = Counter(labels)
    quotas = _quotas(sizes, count, seed)
    wanted = quotas.total()
    taken: list[int] = []
    picked: Counter[Any] = Counter()

    def take(groups: Iterable[list[int]], most: float, needed: float) -> None:
        """Take out those of `groups` of whose rows the share `needed` is lacking, until there are `most` rows."""
        for members in groups:
            own = {labels[members[0]]: 1} if len(members) == 1 else Counter(labels[i] for i in members)  # of a million rows
            lacking = sum(n for label, n in own.items() if picked[label] + n <= quotas[label])
            stays = all(picked[label] + n < sizes[label] for label, n in own.items())
            if stays and lacking >= needed * len(members) and len(taken) + len(members) <= most:
                taken.extend(members)
                picked.update(own)

    left = list(_shuffled(labels, keys, seed))
    # Where quotas are nearly full a group of several labels finds room in all of them less often than a row alone: such groups
    # get their share first, or scores would be those of the rows on which all agree.
    mixed = [members for members in left if len(members) > 1 and len({labels[i] for i in members}) > 1]
    random.Random(seed).shuffle(mixed)
    take(mixed, wanted * sum(map(len, mixed)) / len(labels), 1.0)
    for which, needed in (("alike", 1.0), ("all", 1.0), ("all", 0.5)):  # the last fills up where one of several labels is full
        gone = set(taken)
        several = set() if which == "all" else {members[0] for members in mixed}
        take((m for m in left if m[0] not in gone and m[0] not in several), wanted, needed)
        if len(taken) == wanted:
            break
    return sorted(taken)


def smallest_groups(labels: Sequence[Any], keys: Sequence[Hashable], count: int) -> list[int]:
    """Places of the rows of the smallest groups, of which each is larger than `_carved_places` takes, until they are `count`;
    a class keeps at least one row, and half of all rows stay."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        groups[key].append(i)
    left = Counter(labels)
    taken: list[int] = []
    for members in sorted(groups.values(), key=len):
        own = Counter(labels[i] for i in members)
        stays = 2 * (len(taken) + len(members)) <= len(labels) and all(left[label] > n for label, n in own.items())
        if stays and len(taken) < count:
            taken += members
            left -= own
    return sorted(taken)


def _quotas(sizes: Counter[Any], count: int, seed: int) -> Counter[Any]:
    """How many rows each class gives, of so many that it has; `count` in all where they can."""
    share = min(count / sizes.total(), 0.9)
    exact = {label: share * size for label, size in sizes.items()}
    quotas = Counter({label: min(round(exact[label]), size - 1) for label, size in sizes.items()})
    lacking = round(sum(exact.values())) - quotas.total()
    step = 1 if lacking > 0 else -1
    shuffled = random.Random(seed).sample(sorted(sizes), len(sizes))  # classes of equal size lack equally much
    waiting = [(step * (quotas[label] - exact[label]), place) for place, label in enumerate(shuffled)]
    heapify(waiting)
    while lacking and waiting:
        label = shuffled[waiting[0][1]]
        if 0 <= quotas[label] + step < sizes[label]:
            quotas[label] += step
            lacking -= step
            heapreplace(waiting, (step * (quotas[label] - exact[label]), waiting[0][1]))
        else:
            heappop(waiting)
    return quotas


def deal(rows: Rows, folds: int, seed: int, keys: Sequence[Hashable] | None = None) -> list[int]:
    """The fold of each row, counted from 0: stratified by label, whole groups at a time, by the rows' own keys or `keys`.

    A group goes to the fold that has the fewest rows of its labels, and of several the one with the fewest rows in all.
    """
    dealt = [0] * len(rows)
    sizes = [0] * folds
    of_label: dict[str, list[int]] = defaultdict(lambda: [0] * folds)
    for members in _shuffled(rows.labels, rows.keys() if keys is None else keys, seed):
        own = Counter(rows.labels[i] for i in members)
        alike = [sum(n * of_label[label][fold] for label, n in own.items()) for fold in range(folds)]
        fold = min(range(folds), key=list(zip(alike, sizes, strict=True)).__getitem__)
        sizes[fold] += len(members)
        for label, n in own.items():
            of_label[label][fold] += n
        for i in members:
            dealt[i] = fold
    return dealt


def _shuffled(labels: Sequence[Any], keys: Sequence[Hashable], seed: int) -> Iterator[list[int]]:
    """Indices of the rows, a group at a time, label by label: a group counts to the rarest of its labels."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        groups[key].append(i)
    sizes = Counter(labels)
    by_label: dict[Any, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        found = {labels[i] for i in members}
        rarest = min(found, key=lambda label: (sizes[label], label)) if len(found) > 1 else found.pop()
        by_label[rarest].append(members)
    order = random.Random(seed)
    for label in sorted(by_label):
        order.shuffle(by_label[label])
        yield from by_label[label]
