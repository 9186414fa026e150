"""Near-duplicates: texts that differ from an earlier one only a little.

Two texts are near-duplicates when at least 0.8 of their shingles (three words in a row; five characters where words are
not parted by spaces) are the same, by the Jaccard index. Candidates come from min-hash signatures in bands (Broder 1997;
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3) and are then compared exactly.

Of a large file a sample is compared. Rows drawn at random would hide nearly every pair, since both must be drawn; so rows
are drawn by their longest word, which near-duplicates mostly share: they are drawn together or not at all.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

ALIKE = 0.8
SHINGLE_WORDS = 3
SHINGLE_CHARACTERS = 5
NEAR_ROWS = 20_000
"""Different texts that are compared at most."""
READ_CHARACTERS = 5_000
"""Of a text; the start of a long document tells as well as all of it."""
_BANDS, _ROWS_A_BAND = 10, 4
"""With these, pairs that are 0.8 alike are found with probability 0.995, pairs that are 0.4 alike looked at in 23%."""
_MOST_COMPARED = 20
"""Earlier texts of one bucket that are compared; further ones are like these."""
_COMMON = 0.1
"""Share of the texts from which on what they have in common is a template of theirs."""
_ASKED, _LEAST_ASKED = 2_000, 30
_MOST_WORDS = 1_000
_WORD = re.compile(r"\w+")
Shingles = npt.NDArray[np.uint32]
"""Hashes, each once; in arrays, for 20,000 long texts take 1.4 GB as sets."""


def group_of(words: Sequence[str]) -> int:
    """A number that near-duplicates mostly share; texts are drawn by it.

    It stands for the longest word: seldom a frequent one, and seldom the one that differs.
    """
    return crc32(max(words[:_MOST_WORDS], key=len, default="").encode("utf-8", "replace"))


class Alike:
    """Texts by their min-hash signatures, so that what differs from one of them only a little is found among few.

    What a tenth of them share, a system prompt or an instruction before every input, is no part of what is compared.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """No two of `texts` should be the same."""
        random = np.random.default_rng(0)
        # Multiply-shift hashing (Dietzfelbinger et al. 1997): odd factors, the upper bits of the product.
        numbers = random.integers(0, 1 << 63, (_BANDS * _ROWS_A_BAND, 1), dtype=np.uint64)
        self._factors = numbers * np.uint64(2) + np.uint64(1)
        self._common = _common(texts)
        self._shingles: list[Shingles] = []
        self._buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        self.repeated = sum(map(self._added, texts))
        """How many of them differ from an earlier one only a little."""

    def holds(self, text: str) -> bool:
        """Whether one of them differs from it only a little."""
        own = self._own(text)
        return self._found(own, self._places(own))

    def _added(self, text: str) -> bool:
        own = self._own(text)
        places = self._places(own)
        found = self._found(own, places)
        for place in places:
            if len(self._buckets[place]) < _MOST_COMPARED:
                self._buckets[place].append(len(self._shingles))
        self._shingles.append(own)
        return found

    def _own(self, text: str) -> Shingles:
        """What the text does not share with very many; all where it shares all."""
        every = _shingles(text)
        own = every[~np.isin(every, self._common)] if len(self._common) else every
        return own if len(own) else every

    def _places(self, own: Shingles) -> list[tuple[int, bytes]]:
        signature = (self._factors * own.astype(np.uint64)).min(axis=1).reshape(_BANDS, _ROWS_A_BAND)
        return [(band, signature[band].tobytes()) for band in range(_BANDS)]

    def _found(self, own: Shingles, places: list[tuple[int, bytes]]) -> bool:
        earlier = {i for place in places for i in self._buckets.get(place, ())}
        return any(_alike(own, self._shingles[i]) for i in earlier)


def _common(texts: Sequence[str]) -> Shingles:
    """Shingles that more than a tenth of the texts have; of many texts some are asked."""
    asked = [_shingles(text) for text in texts[:: max(1, len(texts) // _ASKED)]]
    if len(asked) < _LEAST_ASKED:
        return np.zeros(0, dtype=np.uint32)
    found, times = np.unique(np.concatenate(asked), return_counts=True)
    return np.asarray(found[times > _COMMON * len(asked)])


def drawn(groups: npt.NDArray[np.uint32], most: int) -> npt.NDArray[np.bool_]:
    """Which rows to compare, whole groups at a time, about `most` of them in all."""
    chosen = below(groups, last_drawn(groups, most))
    if len(groups) > most and chosen.sum() < most // 2:  # the next group alone is large: its first rows
        chosen[np.argsort(_mixed(groups), kind="stable")[:most]] = True
    return chosen


def last_drawn(groups: npt.NDArray[np.uint32], most: int) -> int:
    """What `below` takes, so that about `most` rows are chosen at most."""
    return 1 << 32 if len(groups) <= most else int(np.partition(_mixed(groups), most)[most])


def below(groups: npt.NDArray[np.uint32], last: int) -> npt.NDArray[np.bool_]:
    """Which rows are of the groups up to that: of two files those that may be alike."""
    chosen: npt.NDArray[np.bool_] = _mixed(groups) < last
    return chosen


def _mixed(groups: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    return (groups.astype(np.uint64) * np.uint64(2_654_435_761)) & np.uint64(0xFFFFFFFF)


def _shingles(text: str) -> Shingles:
    folded = text[:READ_CHARACTERS].casefold()
    words = _WORD.findall(folded) or folded.split()  # of texts without a letter, as of emoji, what stands there
    if sum(map(len, words)) > 12 * len(words):  # no spaces between words
        joined = "".join(words)
        parts = [joined[i : i + SHINGLE_CHARACTERS] for i in range(max(1, len(joined) - SHINGLE_CHARACTERS + 1))]
    else:
        parts = [" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))]
    return np.fromiter({crc32(part.encode("utf-8", "replace")) for part in parts}, dtype=np.uint32)


def _alike(one: Shingles, other: Shingles) -> bool:
    if min(len(one), len(other)) < ALIKE * max(len(one), len(other)):
        return False
    same = len(np.intersect1d(one, other, assume_unique=True))
    return same >= ALIKE * (len(one) + len(other) - same)
