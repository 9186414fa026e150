"""What can go wrong, as a person meets it: one sentence and one exit code each.

LoracleError
├── InputError       exit 2   a file, flag, plan or model that cannot be used as it is
├── Refused          exit 3   the run would not fit or would be wasted; nothing was started
└── TrainingFailed   exit 4   the worker gave up after it had started
"""

from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """The program's exit codes, an interface like any other (listed in the README)."""

    DONE = 0
    USAGE = 2
    REFUSED = 3
    FAILED = 4
    STOPPED = 5
    INTERRUPTED = 130
    """Ctrl-C, and nothing could be saved."""
    TERMINATED = 143
    """SIGTERM or a forced stop, and nothing could be saved."""


class LoracleError(Exception):
    """A failure told in one clear sentence: what is wrong, where, what to do."""

    exit: ClassVar[Exit] = Exit.FAILED

    def __init__(self, message: str, cure: str | None = None) -> None:
        """`cure` is what to do about it, where the message does not say so itself."""
        super().__init__(message)
        self.message, self.cure = message, cure


class InputError(LoracleError):
    """Bad usage or bad input; nothing was started."""

    exit = Exit.USAGE


class Refused(LoracleError):
    """The run would not fit, or would be wasted; nothing was started."""

    exit = Exit.REFUSED


class TrainingFailed(LoracleError):
    """The worker gave up after it had started."""

    exit = Exit.FAILED

    def __init__(self, message: str, cure: str | None = None, setting: str | None = None) -> None:
        """`setting` is what would be saner in a new run, as after `--set`: the same again would fail again."""
        super().__init__(message, cure)
        self.setting = setting
