"""How rows are sampled and dealt out: seeded, stratified by label, whole groups on one side. The same for inspection and run."""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace

from engine.rows import Rows
from recommender.errors import InputError


def sample(rows: Rows, count: int | None, seed: int) -> Rows:
    """A seeded sample of `count` rows in the file's order; all rows when there are no more."""
    if count is None or count >= len(rows):
        return rows
    chosen = sorted(random.Random(seed).sample(range(len(rows)), count))
    return rows.take(chosen)


def put_aside(
    rows: int, held_out: int, train_rows: int | None, seed: int, groups: Sequence[Hashable] | None = None
) -> tuple[list[int], list[int]]:
    """Places of the rows that are trained on and of those held out, where both come from one file, in the file's order.

    `groups` tell which rows belong together: whole groups are held out, unless they are too large for that.

    Raises:
        InputError: more than half would be held out.
    """
    if held_out > rows / 2:
        raise InputError(f"--eval-rows is {held_out}, more than half of the {rows} rows there are; name a file with --eval.")
    wanted = rows if train_rows is None else min(held_out + train_rows, rows)
    if groups is not None and len(set(groups)) < rows:
        order = random.Random(seed)
        aside = _whole_groups(groups, held_out, order)
        if 2 * len(aside) >= held_out:
            kept = set(aside)
            rest = [i for i in range(rows) if i not in kept]
            return sorted(order.sample(rest, min(wanted - held_out, len(rest)) if train_rows else len(rest))), sorted(aside)
    chosen = random.Random(seed).sample(range(rows), wanted)
    return sorted(chosen[held_out:]), sorted(chosen[:held_out])


def _whole_groups(groups: Sequence[Hashable], count: int, order: random.Random) -> list[int]:
    """Places of about `count` rows, whole groups of them."""
    members_of: dict[Hashable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members_of[group].append(i)
    shuffled = list(members_of.values())
    order.shuffle(shuffled)
    taken: list[int] = []
    for members in shuffled:
        if len(taken) + len(members) <= count:
            taken += members
    return taken


def carve(rows: Rows, count: int, seed: int) -> tuple[Rows, Rows]:
    """`count` rows taken out, stratified by label, whole groups at a time; and the rest.

    A class keeps at least one row on the side that stays. What the shares of the classes lack to whole rows goes to those that
    lack most (largest remainder), so that many small classes give `count` rows too.
    """
    if count <= 0 or len(rows) < 2:
        return rows.take([]), rows
    sizes = Counter(rows.labels)
    quotas = _quotas(sizes, count, seed)
    wanted = quotas.total()
    taken: list[int] = []
    picked: Counter[str] = Counter()
    left = list(_shuffled(rows, seed))
    for needed in (1.0, 0.5):  # where groups hold several labels and one of these is full, the others go on filling up
        over = []
        for members in left if len(taken) < wanted else ():
            own = Counter(rows.labels[i] for i in members)
            lacking = sum(n for label, n in own.items() if picked[label] + n <= quotas[label])
            stays = all(picked[label] + n < sizes[label] for label, n in own.items())
            if stays and lacking >= needed * len(members) and len(taken) + len(members) <= wanted:
                taken += members
                picked.update(own)
            else:
                over.append(members)
        left = over
    chosen = set(taken)
    return rows.take(sorted(taken)), rows.take([i for i in range(len(rows)) if i not in chosen])


def _quotas(sizes: Counter[str], count: int, seed: int) -> Counter[str]:
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


def deal(rows: Rows, folds: int, seed: int) -> list[int]:
    """The fold of each row, counted from 0: stratified by label, whole groups at a time.

    A group goes to the fold that has the fewest rows of its labels, and of several the one with the fewest rows in all.
    """
    dealt = [0] * len(rows)
    sizes = [0] * folds
    of_label: dict[str, list[int]] = defaultdict(lambda: [0] * folds)
    for members in _shuffled(rows, seed):
        own = Counter(rows.labels[i] for i in members)
        alike = [sum(n * of_label[label][fold] for label, n in own.items()) for fold in range(folds)]
        fold = min(range(folds), key=list(zip(alike, sizes, strict=True)).__getitem__)
        sizes[fold] += len(members)
        for label, n in own.items():
            of_label[label][fold] += n
        for i in members:
            dealt[i] = fold
    return dealt


def _shuffled(rows: Rows, seed: int) -> Iterator[list[int]]:
    """Indices of the rows, a group at a time, label by label: a group counts to the rarest of its labels."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(rows.keys()):
        groups[key].append(i)
    sizes = Counter(rows.labels)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for members in groups.values():
        by_label[min((rows.labels[i] for i in members), key=lambda label: (sizes[label], label))].append(members)
    order = random.Random(seed)
    for label in sorted(by_label):
        order.shuffle(by_label[label])
        yield from by_label[label]
