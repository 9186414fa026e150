"""Files of text: unpacked, decoded and checked, as a stream of UTF-8."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.tables.source import Told, nobody
from recommender.errors import InputError

CHUNK = 1 << 20
UNPACKED_MOST = 2 << 30
"""Bytes that a gzip file may hold; a file made to fill the disk or the memory holds a thousand times its own size."""
LONGEST_LINE = 64 << 20
"""Bytes; nobody's text is that long, but a file without line ends is."""
_WESTERN_MOST = 0.3
"""Share of bytes above 0x7f up to which a text can be western European; Cyrillic or Greek code pages have far more."""
_FREQUENT = frozenset("的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会")
"""The characters that make up a fifth and more of any Chinese text."""
_FREQUENT_LEAST = 0.05
"""Korean or Japanese read as GB18030 is Chinese characters too, but any of them: these are hardly a hundredth."""
_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"
_CONTROLS = bytes(set(range(32)) - {9, 10, 11, 12, 13}) + b"\x7f"


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of text and how it is written."""

    path: Path
    packed: bool
    codec: str
    """For Python: utf-8-sig, utf-16, cp1252, gb18030."""
    encoding: str
    """For people: UTF-8, UTF-16, Latin-1, Windows-1252, GB18030."""

    def chunks(self, told: Told = nobody) -> Iterator[bytes]:
        """The content as UTF-8 without a mark at its start; a chunk may end inside a character."""
        decoder = None if self.codec == "utf-8-sig" else codecs.getincrementaldecoder(self.codec)()
        first = True
        for raw in _unpacked(self.path, self.packed, told):
            # Where two exports were joined UTF-8's mark stands before what is none.
            rest = raw.removeprefix(codecs.BOM_UTF8) if first else raw
            yield rest if decoder is None else decoder.decode(rest).encode("utf-8", "replace")
            first = False

    def text(self) -> str:
        """All of it."""
        return b"".join(self.chunks()).decode("utf-8")

    def head(self, size: int) -> str:
        """The first `size` bytes or all there are."""
        found = bytearray()
        for chunk in self.chunks():
            found += chunk
            if len(found) >= size:
                break
        return found[:size].decode("utf-8", "ignore")

    def lines(self, told: Told = nobody) -> Iterator[bytes]:
        """Lines without their ends: LF or CR LF; CR, as old Macs wrote it, where the file begins without any LF.

        Raises:
            InputError: a line of absurd length.
        """
        rest = b""
        number = 1
        end: bytes | None = None
        for chunk in self.chunks(told):
            end = end or (b"\r" if b"\r" in chunk and b"\n" not in chunk else b"\n")
            parts = (rest + chunk).split(end)
            rest = parts.pop()
            for line in parts:
                yield line.removesuffix(b"\r")
            number += len(parts)
            if len(rest) > LONGEST_LINE:
                raise InputError(f"{self.path}:{number}: a line of more than {LONGEST_LINE >> 20} MiB; is this a file of rows?")
        if rest:
            yield rest.removesuffix(b"\r")


def open_text(path: Path) -> TextFile:
    """The file with its encoding, found by looking at every byte once.

    UTF-8 is the rule, UTF-16 is told by its mark. What is neither, but reads like western European text, is taken as
    Latin-1 or Windows-1252, and what reads like Chinese as GB18030, in which spreadsheets are saved in China.

    Raises:
        InputError: no text in an encoding that can be told, with the line where it shows; or a gzip file that is
            damaged, or holds more than `UNPACKED_MOST` bytes.
    """
    packed = is_gzip(path)
    start = next(_unpacked(path, packed, nobody), b"")
    if not start:
        raise InputError(f"{path} is empty.")
    if packed and start.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        raise InputError(f"{path}: is a parquet or Arrow file, packed; unpack it and give the file inside.")
    if start[257:262] == b"ustar":
        raise InputError(f"{path} is an archive; unpack it and give the file inside.")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        if _first_bad(path, packed, "utf-16") is not None:
            raise InputError(f"{path}: begins like UTF-16 but is not; save it as UTF-8.")
        return TextFile(path, packed, "utf-16", "UTF-16")
    bad = _first_bad(path, packed, "utf-8")
    if bad is None:
        return TextFile(path, packed, "utf-8-sig", "UTF-8")
    line, byte = bad
    if byte == 0:
        place = _place_of_null(path, packed)
        raise InputError(f"{path}:{line}:{place}: holds null bytes, so it is not a text file; save it as UTF-8 text.")
    encoding = _western(path, packed)
    if encoding is None and _is_chinese(path, packed):
        return TextFile(path, packed, "gb18030", "GB18030")
    if encoding is None:
        raise InputError(
            f"{path}:{line}: is not UTF-8 (byte 0x{byte:02x}), nor does it read like western European text;"
            f" save it as UTF-8, for example with `iconv -f ENCODING -t utf-8 {path.name}`."
        )
    return TextFile(path, packed, "cp1252", encoding)


def is_gzip(path: Path) -> bool:
    """Whether the file begins as gzip files do."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _unpacked(path: Path, packed: bool, told: Told) -> Iterator[bytes]:
    with path.open("rb") as file:
        if not packed:
            while chunk := file.read(CHUNK):
                yield chunk
                told(file.tell())
            return
        yield from _gunzipped(path, file, told)


def _gunzipped(path: Path, file: BinaryIO, told: Told) -> Iterator[bytes]:
    size = 0
    try:
        with gzip.GzipFile(fileobj=file) as inside:
            while chunk := inside.read(CHUNK):
                size += len(chunk)
                if size > UNPACKED_MOST:
                    raise InputError(
                        f"{path}: unpacks to more than {UNPACKED_MOST >> 20:,} MiB, where reading stops;"
                        " unpack it yourself if that is meant."
                    )
                yield chunk
                told(file.tell())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({str(error).rstrip('.')}).") from None


def _first_bad(path: Path, packed: bool, codec: str) -> tuple[int, int] | None:
    """Line and value of the first byte that does not belong into such a text; `None` when all do."""
    decoder = codecs.getincrementaldecoder(codec)()
    line = 1
    for chunk in _unpacked(path, packed, nobody):
        zero = -1 if codec == "utf-16" else chunk.find(b"\x00")
        try:
            decoder.decode(chunk if zero < 0 else chunk[:zero])
        except UnicodeDecodeError as error:
            seen = error.object[: error.start]
            return line + seen.count(b"\n"), error.object[error.start]
        if zero >= 0:
            return line + chunk.count(b"\n", 0, zero), 0
        line += chunk.count(b"\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return line, error.object[error.start]
    return None


def _place_of_null(path: Path, packed: bool) -> int:
    """Where in its line the first null byte stands, counted in characters from 1, as editors do."""
    before = b""
    for chunk in _unpacked(path, packed, nobody):
        zero = chunk.find(b"\x00")
        text = chunk if zero < 0 else chunk[:zero]
        before = text.rpartition(b"\n")[2] if b"\n" in text else before + text
        if zero >= 0:
            break
    return len(before.decode("utf-8", "replace")) + 1


def _western(path: Path, packed: bool) -> str | None:
    """The name of the western European encoding that all bytes fit; `None` when they do not.

    A text that is UTF-8 but for a few bytes is a damaged one: read as Latin-1 every umlaut in it would become two
    characters.
    """
    size = high = typographic = pairs = 0
    above = bytes(range(0x80, 0x100))
    for chunk in _unpacked(path, packed, nobody):
        if any(byte in chunk for byte in _UNDEFINED) or len(chunk) != len(chunk.translate(None, _CONTROLS)):
            return None
        size += len(chunk)
        high += len(chunk) - len(chunk.translate(None, above))
        typographic += len(chunk) - len(chunk.translate(None, bytes(range(0x80, 0xA0))))
        pairs += len(chunk) - len(chunk.decode("utf-8", "ignore").encode("utf-8"))
    valid_utf8 = high - pairs
    if high > _WESTERN_MOST * size or valid_utf8 > high / 2:
        return None
    return "Windows-1252" if typographic else "Latin-1"


def _is_chinese(path: Path, packed: bool) -> bool:
    """Whether all bytes are GB18030, and what they say reads like Chinese."""
    if _first_bad(path, packed, "gb18030") is not None:
        return False
    decoder = codecs.getincrementaldecoder("gb18030")()
    text = decoder.decode(next(_unpacked(path, packed, nobody), b""))
    foreign = [c for c in text if c > "\x7f"]
    characters = [c for c in foreign if "\u4e00" <= c <= "\u9fff"]
    frequent = sum(c in _FREQUENT for c in characters)
    return len(characters) > 0.8 * len(foreign) and frequent >= _FREQUENT_LEAST * len(characters)
