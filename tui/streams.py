"""Standard output and standard error as they are found: closed, full, or of an encoding that lacks what is to be said."""

import codecs
import contextlib
import io
import os
import sys

IN_ASCII = "loracle-in-ascii"
"""Name of the way in which what an encoding lacks is written."""


def have() -> None:
    """A stream that whoever starts us has closed is nothing to read, or nowhere to write; the next file would take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def write_anything(encoding: str | None = None) -> None:
    """What an encoding lacks ends nothing: signs become what stands for them (`->`), all else is written out (`\\u4e2d`).

    JSON has an `encoding` of its own.
    """
    codecs.register_error(IN_ASCII, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=encoding if stream is sys.stdout else None, errors=IN_ASCII)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from tui.words import ASCII_SIGNS

    lacking = error.object[error.start : error.end]
    written = [ASCII_SIGNS.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in lacking]
    return "".join(written), error.end


def complain(text: str) -> None:
    """On standard error; where that cannot be written, the exit code still says what it would have said."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
