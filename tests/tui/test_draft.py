"""What a person has said so far, and how it is kept."""

import threading
import time

import pytest

from tui import draft as drafts
from tui.draft import Draft


def test_threads_that_keep_a_draft_at_once_leave_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []

    def write(*arguments: object) -> None:
        inside.append(1)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()

    most: list[int] = []
    monkeypatch.setattr(drafts, "write_atomically", write)
    threads = [threading.Thread(target=drafts.keep, args=(Draft(data=str(n)),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
