"""What a worker tells its viewers, beside its steps."""

import time
from collections.abc import Callable
from typing import Any

from engine.events import EventWriter


class Narrator:
    """Phases with their progress, warnings, recoveries."""

    def __init__(self, events: EventWriter) -> None:
        self.events = events
        self.now = "load"
        """The phase."""

    def phase(self, name: str, done: int = 0, total: int = 0, unit: str = "", limit: float | None = None) -> None:
        """What is being done now, in at most `limit` seconds where it is known to be cut short."""
        self.now = name
        self.events.write("phase", name=name, done=done, total=total, unit=unit, **({"limit": limit} if limit else {}))

    def progress(self, name: str, total: int, unit: str = "rows", limit: float | None = None) -> Callable[[int], None]:
        """Begin a phase; the returned reporter writes at most twice a second, and the end."""
        last = 0.0
        self.phase(name, 0, total, unit, limit)

        def report(done: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= 0.5 or done >= total:
                last = now
                self.phase(name, done, total, unit, limit)

        return report

    def warn(self, code: str, text: str, **facts: Any) -> None:
        """Something the person should know; it also stands in the report."""
        self.events.write("warning", code=code, text=text, facts=facts)

    def recovered(self, before: dict[str, Any], after: dict[str, Any], text: str) -> None:
        """Something was changed so that the run goes on; it also stands in the report."""
        self.events.write("recovery", before=before, after=after, text=text)

    def less_memory(self, before: int, after: int) -> None:
        """Memory ran out and the token budget was lowered."""
        smaller = f"micro-batches now hold {after:,} tokens instead of {before:,}"
        text = f"Memory ran out; {smaller}. Each step still learns from the same rows."
        self.recovered({"token_budget": before}, {"token_budget": after}, text)

    def recomputing(self) -> None:
        """Memory ran out for one row alone and gradient checkpointing was switched on."""
        text = "Memory ran out for one row alone; gradient checkpointing is on now: slower. The result does not change."
        self.recovered({"gradient_checkpointing": False}, {"gradient_checkpointing": True}, text)
