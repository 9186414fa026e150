"""The event log: append-only lines that survive crashes."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.events import MAX_LINE, EventTail, EventWriter, parse_line, read_events


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(log: Path, *kinds: str) -> None:
    writer = EventWriter(log)
    for kind in kinds:
        writer.write(kind, step=1)
    writer.close()


def kinds(log: Path) -> list[str]:
    return [e["kind"] for e in read_events(log)]


def test_events_come_back_in_order_and_counted(log: Path) -> None:
    write(log, "run", "step", "end")
    assert [(e["seq"], e["kind"]) for e in read_events(log)] == [(1, "run"), (2, "step"), (3, "end")]
    assert log.stat().st_mode & 0o777 == 0o600


def test_counting_goes_on_after_a_restart(log: Path) -> None:
    write(log, "run", "step")
    write(log, "run")
    assert [e["seq"] for e in read_events(log)] == [1, 2, 3]


def test_a_torn_last_line_is_held_back_until_it_is_whole(log: Path) -> None:
    write(log, "run", "step")
    whole = log.read_bytes()
    log.write_bytes(whole[:-10])
    tail = EventTail(log)
    assert [e["kind"] for e in tail.poll()] == ["run"]
    assert tail.poll() == []
    with log.open("ab") as file:
        file.write(whole[-10:])
    assert [e["kind"] for e in tail.poll()] == ["step"]


def test_a_writer_goes_on_after_one_that_died_inside_a_line(log: Path) -> None:
    write(log, "run", "step")
    log.write_bytes(log.read_bytes()[:-10])
    write(log, "run")
    assert kinds(log) == ["run", "run"]


def test_garbage_and_unknown_kinds_are_skipped(log: Path) -> None:
    write(log, "run")
    with log.open("ab") as file:
        file.write(b"garbage\n\xff\xfe\n[1]\n\n" + b'{"seq": 9, "kind": "martian"}\n{"kind": "step"}\n')
        file.write(b'{"seq": 2, "kind": "step", "loss": NaN}\n{"seq": 2, "kind": "step"} {"seq": 3}\n' + b"[" * 50_000 + b"\n")
    write(log, "end")
    assert kinds(log) == ["run", "end"]


def test_among_sound_lines_an_unknown_kind_is_skipped_too(log: Path) -> None:
    log.write_bytes(b'{"seq": 1, "kind": "martian"}\n')
    write(log, "run", "end")
    assert kinds(log) == ["run", "end"]


def test_a_line_no_writer_makes_is_skipped_whatever_its_size(log: Path) -> None:
    write(log, "run")
    with log.open("ab") as file:
        file.write(b"x" * (3 * MAX_LINE) + b"\n")
    write(log, "end")
    tail, seen = EventTail(log), []
    for _ in range(20):
        seen += tail.poll(max_bytes=MAX_LINE // 2)
    assert [e["kind"] for e in seen] == ["run", "end"]
    write(log, "step")
    assert [e["kind"] for e in tail.poll()] == ["step"], "nor is what comes after it"
    log.write_bytes(b"x" * (2 * MAX_LINE) + b'{"seq": 9, "kind": "end"}\n')
    tail = EventTail(log)
    assert not any(tail.poll(max_bytes=MAX_LINE) for _ in range(4)), "whatever its end looks like"


def test_an_event_that_is_too_large_is_cut_and_says_so(log: Path) -> None:
    writer = EventWriter(log)
    written = writer.write("warning", text="x" * MAX_LINE)
    writer.close()
    assert written["cut"] > MAX_LINE
    assert [e["kind"] for e in read_events(log)] == ["warning"]
    assert max(map(len, log.read_bytes().splitlines())) <= MAX_LINE


def test_numbers_that_json_lacks_become_null(log: Path) -> None:
    writer = EventWriter(log)
    writer.write("step", loss=float("nan"), metrics={"a": [float("inf"), 1.5]})
    writer.close()
    (event,) = read_events(log)
    assert (event["loss"], event["metrics"]) == (None, {"a": [None, 1.5]})
    assert "NaN" not in log.read_text()


def test_foreign_text_stays_one_line(log: Path) -> None:
    writer = EventWriter(log)
    writer.write("warning", text="a\nb\u2028c\ud800")
    writer.write("end", status="done")
    writer.close()
    assert kinds(log) == ["warning", "end"]


def test_what_a_power_cut_must_not_take_is_flushed_and_steps_are_not(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    monkeypatch.setattr("engine.events.os.fsync", lambda _: flushed.append(kinds(log)[-1]))
    write(log, "run", "step", "checkpoint", "heartbeat", "evaluation", "recovery", "end")
    assert flushed == ["run", "checkpoint", "evaluation", "recovery", "end"]


def test_an_unknown_kind_is_a_mistake_of_the_program(log: Path) -> None:
    writer = EventWriter(log)
    with pytest.raises(ValueError, match="unknown kind"):
        writer.write("stpe")
    writer.close()


def test_kinds_that_nobody_wants_are_passed_over(log: Path) -> None:
    writer = EventWriter(log)
    for step in range(1, 40):
        writer.write("step", step=step, loss=1.0)
        writer.write("heartbeat", machine={})
        if step % 20 == 0:
            writer.write("warning", text='"kind": "step"')
    tail = EventTail(log, without=("step", "heartbeat"))
    found = [event for _ in range(2) for event in tail.poll(500)]  # many times as much lies between them
    assert [(event["kind"], event["seq"]) for event in found] == [("warning", 41)]
    writer.write("end", status="done", code=0)
    writer.close()
    assert [event["kind"] for event in tail.poll(500)] == ["end"]


def test_a_missing_log_is_an_empty_one(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "none.jsonl")) == []


def test_an_event_that_the_disk_had_half_room_for_takes_no_other_with_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, whole = EventWriter(log), os.write
    writer.write("run")
    monkeypatch.setattr("engine.events.os.write", lambda file, line: whole(file, line[: len(line) // 2]))
    writer.write("step")
    monkeypatch.undo()
    writer.write("end", status="done")
    writer.close()
    assert kinds(log) == ["run", "end"]


def test_a_log_that_cannot_be_written_does_not_end_the_training(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = EventWriter(log)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.events.os.write", full)
    writer.write("step")
    writer.write("step")
    monkeypatch.undo()
    writer.close()
    assert capsys.readouterr().err.count("No space left") == 1


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_reader(line: bytes) -> None:
    event = parse_line(line)
    assert event is None or json.dumps(event)
