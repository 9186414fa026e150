"""Asking a finished run's model and its base, side by side, through a child that holds both."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

from engine import launch
from engine.rundir import RunDirectory
from engine.threads import NO_PROCESS
from recommender.errors import InputError, Refused

MOST_BYTES = 1_000_000
"""Of one line of the child."""


class Trial:
    """Opens with `start`, answers `ask`, and must be closed."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.system = ""
        """The system message that texts are asked with, once the models are loaded."""
        self.tools: list[str] = []
        """Names of the tools that are offered then."""
        self._process: asyncio.subprocess.Process | None = None
        self._asked = 0
        self._reading = asyncio.Lock()

    async def start(self, environment: dict[str, str] | None = None) -> None:
        """Start the child and wait until both models are loaded. `environment` is `launch.environment()`, which takes a moment.

        Raises:
            InputError: they cannot be loaded.
            Refused: no process can be started.
        """
        if not self.run.model.is_dir():
            raise InputError(f"{self.run.name} has no saved model yet.")
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "engine.worker.try_it",
                str(self.run.path),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env=environment or launch.environment(),
                limit=MOST_BYTES,
            )
        except OSError as error:
            raise Refused(NO_PROCESS.format(why=error.strerror)) from None
        try:
            first = await self._read()
            if "error" in first:
                raise InputError(str(first["error"]))
            self.system, self.tools = str(first.get("system") or ""), list(map(str, first.get("tools") or ()))
        except BaseException:
            await self.close()
            raise

    async def ask(self, text: str, told: Callable[[str, str], None]) -> dict[str, Any]:
        """Answers of `base` and `tuned`; `told(side, words so far)` while they are written.

        Raises:
            InputError: the models could not answer, or the child is gone.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        self._asked += 1
        try:
            self._process.stdin.write(json.dumps({"id": self._asked, "text": text}).encode() + b"\n")
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):  # a closed transport raises the latter
            raise InputError("The models are gone: their process ended. Leave this screen and come back.") from None
        while True:
            found = await self._read()
            if found.get("id") != self._asked:
                continue
            if "partial" in found:
                told(str(found["side"]), str(found["partial"]))
            elif "error" in found:
                raise InputError(f"The models could not answer: {found['error']}")
            else:
                return found

    async def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with self._reading:
                line = await self._process.stdout.readline()
            found = json.loads(line) if line else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InputError("The process that holds the models ended unexpectedly; most often memory ran out.")
        return found

    async def close(self) -> None:
        """End the child; it holds nothing that could be lost."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        async with self._reading:  # whoever still waits for an answer sees the end first
            with contextlib.suppress(ConnectionError):
                await self._process.communicate()
