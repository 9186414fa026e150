"""Reading a GGUF file's metadata and list of tensors, trusting no size in it (ggml's `docs/gguf.md`, versions 2 and 3)."""

import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from engine.text import one_line
from recommender.errors import InputError

TYPES: dict[int, tuple[str, int, int]] = {
    0: ("f32", 1, 4), 1: ("f16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20), 6: ("q5_0", 32, 22), 7: ("q5_1", 32, 24),
    8: ("q8_0", 32, 34), 9: ("q8_1", 32, 40), 10: ("q2_k", 256, 84), 11: ("q3_k", 256, 110), 12: ("q4_k", 256, 144),
    13: ("q5_k", 256, 176), 14: ("q6_k", 256, 210), 15: ("q8_k", 256, 292), 16: ("iq2_xxs", 256, 66), 17: ("iq2_xs", 256, 74),
    18: ("iq3_xxs", 256, 98), 19: ("iq1_s", 256, 50), 20: ("iq4_nl", 32, 18), 21: ("iq3_s", 256, 110), 22: ("iq2_s", 256, 82),
    23: ("iq4_xs", 256, 136), 24: ("i8", 1, 1), 25: ("i16", 1, 2), 26: ("i32", 1, 4), 27: ("i64", 1, 8), 28: ("f64", 1, 8),
    29: ("iq1_m", 256, 56), 30: ("bf16", 1, 2), 34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66), 39: ("mxfp4", 32, 17),
}  # fmt: skip
"""ggml's types by number: name, numbers in a block, bytes of a block. Newer ones are counted by their shape alone."""
MOST_VALUES = 10_000
MOST_TENSORS = 200_000
MOST_ITEMS = 5_000_000
"""Of one array; vocabularies and their merges are the longest."""
LONGEST_NAME = 65_535
LONGEST_TEXT = 10_000_000
LARGEST_HEADER = 500_000_000
MOST_NUMBERS = 10**14
_KEPT_ITEMS = 10_000
_SIMPLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor; the shape is innermost first."""

    name: str
    type: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Content:
    """What stands before the weights."""

    values: dict[str, Any]
    """Metadata. Of long arrays and of arrays of texts only the length is kept."""
    tensors: tuple[Stored, ...]
    length: int
    """Bytes of the file."""
    digest: bytes
    """Over all that was read."""


def read(path: Path) -> Content:
    """Metadata and tensors of a file.

    Raises:
        InputError: not GGUF, of another version, damaged or cut short.
    """
    length = path.stat().st_size
    with path.open("rb", buffering=1 << 20) as file:
        return _Reader(path, file, length).content()


class _Reader:
    def __init__(self, path: Path, file: BinaryIO, length: int) -> None:
        self.path, self.file, self.length = path, file, length
        self.place = 0

    def content(self) -> Content:
        head = self.take(4)
        if head != b"GGUF":
            if head == b"vers":
                raise InputError(f"{self.path}: is a Git LFS pointer, not the weights; run `git lfs pull` in that folder.")
            raise self.damaged("it does not begin like one")
        (version,) = self.unpack("I")
        if version not in (2, 3):
            other = "of the other byte order" if version & 0xFFFF == 0 else f"of version {version}"
            raise InputError(f"{self.path}: is a GGUF file {other}, and versions 2 and 3 are read; convert it again.")
        tensors, count = self.unpack("QQ")
        if count > MOST_VALUES or tensors > MOST_TENSORS:
            raise self.damaged(f"it would hold {tensors} tensors and {count} values")
        values: dict[str, Any] = {}
        for _ in range(count):
            key = self.text(LONGEST_NAME)
            values[key] = self.value(self.unpack("I")[0], 0)
        found = [self.tensor() for _ in range(tensors)]
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 1 << 20:
            raise self.damaged("its alignment cannot be")
        start = -(-self.place // alignment) * alignment
        for stored, offset, size in found:
            if size is not None and start + offset + size > self.length:
                raise self.damaged(f"the weights of {one_line(stored.name, 80)} lie beyond its end; the download was cut short")
        return Content(values, tuple(stored for stored, _, _ in found), self.length, self.hash())

    def tensor(self) -> tuple[Stored, int, int | None]:
        """A tensor, where its weights begin, and their bytes (`None` for a type that is not known)."""
        name = self.text(LONGEST_NAME)
        (dimensions,) = self.unpack("I")
        if dimensions > 8:
            raise self.damaged(f"tensor {one_line(name, 80)} has {dimensions} dimensions")
        shape = self.unpack(f"{dimensions}Q")
        number, offset = self.unpack("IQ")
        kind, block, size = TYPES.get(number, (f"type {number}", 1, 0))
        stored = Stored(name, kind, shape)
        if stored.numbers > MOST_NUMBERS or (shape and shape[0] % block):
            raise self.damaged(f"the shape of tensor {one_line(name, 80)} cannot be")
        return stored, offset, stored.numbers // block * size if size else None

    def value(self, kind: int, depth: int) -> Any:
        if kind == _TEXT:
            return self.text(LONGEST_TEXT)
        if kind == _ARRAY:
            return self.array(depth)
        if kind not in _SIMPLE:
            raise self.damaged(f"it holds a value of the unknown kind {kind}")
        (found,) = self.unpack(_SIMPLE[kind])
        return bool(found) if kind == 7 else found

    def array(self, depth: int) -> Any:
        kind, count = self.unpack("IQ")
        if count > MOST_ITEMS or depth > 3:
            raise self.damaged(f"it holds a list of {count} values")
        if kind in _SIMPLE:
            if count > _KEPT_ITEMS:
                self.take(count * struct.calcsize(_SIMPLE[kind]))
                return count
            return list(self.unpack(f"{count}{_SIMPLE[kind]}"))
        if kind == _TEXT:
            self.skip_texts(count)
        else:
            for _ in range(count):
                self.value(kind, depth + 1)
        return count

    def skip_texts(self, count: int) -> None:
        """Vocabularies and merges: hundreds of thousands of texts that nobody here reads."""
        read, from_bytes, left = self.file.read, int.from_bytes, min(self.length, LARGEST_HEADER) - self.place
        for _ in range(count):
            size = from_bytes(read(8), "little")
            left -= size + 8
            if left < 0:
                raise self.damaged("it ends in the middle of its description; the download was cut short")
            read(size)
        self.place = min(self.length, LARGEST_HEADER) - left

    def text(self, longest: int) -> str:
        (length,) = self.unpack("Q")
        if length > longest:
            raise self.damaged(f"it holds a text of {length} bytes")
        return self.take(length).decode("utf-8", "replace")

    def unpack(self, form: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def take(self, size: int) -> bytes:
        if size > self.length - self.place:
            raise self.damaged("it ends in the middle of its description; the download was cut short")
        self.place += size
        if self.place > LARGEST_HEADER:
            raise self.damaged("its description is larger than 500 MB")
        return self.file.read(size)

    def hash(self) -> bytes:
        """SHA-256 over all that was read."""
        digest = hashlib.sha256()
        self.file.seek(0)
        left = self.place
        while left > 0 and (part := self.file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
        return digest.digest()

    def damaged(self, why: str) -> InputError:
        return InputError(f"{self.path}: damaged GGUF file ({why}); download it again.")
