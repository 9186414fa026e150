"""What must hold on a GPU through the real program: facts, recommendation, worker, stop and resume, recovery, report."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gpu.made import EXAMPLES, encoder, rows, tiny_gemma2, tiny_llama, tiny_t5
from benchmarks.gpu.results import Lines, without_numbers_first
from engine import runs
from engine.events import read_events
from engine.inspection import kernels
from engine.rundir import RunDirectory
from engine.state import FINISHED
from recommender.errors import LoracleError

ROOT = Path(__file__).parents[2]
SUPPORT = ("--data", str(EXAMPLES / "support-train.csv"), "--eval", str(EXAMPLES / "support-heldout.csv"))
CHAT = ("--data", str(EXAMPLES / "chat-train.jsonl"), "--eval", str(EXAMPLES / "chat-heldout.jsonl"))
SMOKE = ("machine", "prefer-lora", "padded-chat-lora", "translate-full", "tag-full", "measure-lora", "stop-and-resume")
SHORT = ("--set", "epochs=1", "--set", "early_stopping=false")


def run(lines: Lines, smoke: bool) -> None:
    """Every check that is not known yet; those that leave the card alone run beside each other."""
    with tempfile.TemporaryDirectory(prefix="loracle-gpu-") as folder:
        work = Path(folder)
        llama, bert = tiny_llama(work / "tiny-llama"), encoder(work / "tiny-bert")
        gemma, t5 = tiny_gemma2(work / "tiny-gemma2"), tiny_t5(work / "tiny-t5")
        made = {task: ("--data", str(file), "--task", task) for task, file in rows(work / "rows").items()}
        beside: dict[str, Callable[[], dict[str, Any]]] = {"machine": lambda: machine(work)}
        for name, (model, data, method, *settings) in {
            "chat-liger": (llama, CHAT, "lora", "kernels=liger"),
            "prefer-lora": (llama, made["preference"], "lora"),
            "padded-chat-lora": (gemma, CHAT, "lora"),
            "translate-full": (t5, made["seq2seq"], "full"),
            "tag-full": (bert, made["token_classification"], "full"),
            "measure-lora": (bert, made["regression"], "lora"),
            "classify-fp16": (bert, SUPPORT, "full", "precision=fp16-mixed"),
            "chat-fp16": (llama, CHAT, "lora", "precision=fp16-mixed"),
            "chat-compiled": (llama, CHAT, "lora", "compile=true"),
            "chat-8-bit": (llama, CHAT, "full", "optimizer=adamw_8bit"),
            "chat-bf16": (llama, CHAT, "full", "precision=bf16"),
            "chat-checkpointed": (llama, CHAT, "lora", "gradient_checkpointing=true"),
            "chat-dora": (llama, CHAT, "lora", "dora=true"),
            "prefer-qlora": (llama, made["preference"], "qlora"),
            "padded-chat-qlora": (gemma, CHAT, "qlora"),
            "translate-lora": (t5, made["seq2seq"], "lora"),
            "classify-full": (bert, SUPPORT, "full"),
            "classify-lora": (bert, SUPPORT, "lora"),
            "classify-qlora": (bert, SUPPORT, "qlora"),
            "chat-full": (llama, CHAT, "full"),
            "chat-lora": (llama, CHAT, "lora"),
            "chat-qlora": (llama, CHAT, "qlora"),
        }.items():
            beside[name] = lambda n=name, m=model, way=method, d=data, more=settings: auto(work / n, way, m, d, more)  # type: ignore[misc]
        beside["stop-and-resume"] = lambda: stop_and_resume(work, bert, epochs=2 if smoke else 10)
        if smoke:
            beside = {name: beside[name] for name in SMOKE}
        names = without_numbers_first("worker-checks", beside, lambda name: [name])
        left = [name for name in names if lines.wanted(name, seconds=30)]
        with ThreadPoolExecutor(2 if smoke else 12) as pool:
            list(pool.map(lambda name: one(lines, name, beside[name]), left))


def one(lines: Lines, name: str, check: Callable[[], dict[str, Any]]) -> None:
    """Do a check and keep what it found, if there is still time: it may have waited for its place."""
    if not lines.wanted(name, seconds=30):
        return
    with lines.trying(name):
        started = time.monotonic()
        found = check()
        lines.write(name, result="ok" if found.pop("holds") else "wrong", seconds=time.monotonic() - started, **found)


def loracle(*arguments: str, timeout: float = 200) -> "subprocess.CompletedProcess[str]":
    """The real program."""
    command = [sys.executable, "-m", "tui.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)


def machine(work: Path) -> dict[str, Any]:
    """What inspection says of the card, beside what torch says of it; and that NF4 was tried for real."""
    import torch

    state = work / "state"
    asked = subprocess.run(
        [sys.executable, "-m", "tui.cli", "inspect", "machine", "--json"],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=ROOT,
        env=os.environ | {"LORACLE_STATE": str(state)},
        check=False,
    )
    said = json.loads(asked.stdout)
    facts = said.get("machine", said)
    if not torch.cuda.is_available():
        return {"holds": facts["backend"] == "cpu", "facts": facts}
    properties = torch.cuda.get_device_properties(0)
    device = (facts.get("devices") or [{}])[0]
    holds = (
        facts.get("backend") == "cuda"
        and device.get("name") == properties.name
        and device.get("compute_capability") == [properties.major, properties.minor]
        and device.get("bf16") is True
        and abs(device.get("memory_total", 0) / properties.total_memory - 1) < 0.03
        and 0 < device.get("memory_free", 0) <= device["memory_total"]
    )
    tried = kernels.works("the card of this check", "cuda", {"CUDA_VISIBLE_DEVICES": str(device.get("uuid"))})
    torch_says = {"total_memory": properties.total_memory}
    found = {"facts": facts, "torch": torch_says, "nf4": tried, "said": asked.stderr[-400:], "exit": asked.returncode}
    return {"holds": holds and tried is True} | found


def auto(folder: Path, method: str, model: str, data: tuple[str, ...], settings: Sequence[str]) -> dict[str, Any]:
    """`loracle --auto` from data to report, in a folder of its own, with these settings beside the usual ones."""
    own = [word for setting in settings for word in ("--set", setting)]
    done = loracle("--auto", "--model", model, *data, "--method", method, "--anyway", *SHORT, *own, "--runs", str(folder))
    made = sorted(folder.glob("*/plan.yaml"))
    if not made:
        return {"holds": False, "exit": done.returncode, "said": (done.stdout + done.stderr)[-1500:]}
    wanted = dict(setting.split("=") for setting in settings)
    found = found_of(RunDirectory(made[-1].parent), wanted.get("precision", "bf16-mixed"))
    return {"holds": done.returncode == 0 and found.pop("sound"), "exit": done.returncode, "said": done.stderr[-600:], **found}


def found_of(run: RunDirectory, precision: str = "bf16-mixed") -> dict[str, Any]:
    """What a run tells of itself, and whether it is as it should be on this machine."""
    import torch

    plan, report = run.plan(), run.report() or {}
    told = list(read_events(run.events))
    about = next((e for e in told if e["kind"] == "run"), {})
    beats = [e["machine"] for e in told if e["kind"] == "heartbeat"]
    steps = [e for e in told if e["kind"] == "step"]
    cuda = torch.cuda.is_available()
    as_wanted = {
        "done": run.state().status == "done",
        "on_the_gpu": not cuda or "cpu" not in str(about.get("device", "cpu")),
        "precision": not cuda or plan.precision == precision,
        # What was put in for speed is in at the end; what a run does for lack of memory is another check's matter.
        "as_planned": not cuda or not any({"kernels", "compile"} & set(e.get("after") or ()) for e in told),
        "gauges": not cuda or any("gpu" in beat and "temperature" in beat for beat in beats),
        "trained": len(steps) > 1 and steps[-1]["loss"] < steps[0]["loss"] * 1.05,
    }
    scores = report.get("scores") or {}
    return {
        "sound": all(as_wanted.values()),
        "as_wanted": as_wanted,
        "device": about.get("device"),
        "precision": plan.precision,
        "token_budget": plan.token_budget,
        "steps": len(steps),
        "first_loss": steps[0]["loss"] if steps else None,
        "last_loss": steps[-1]["loss"] if steps else None,
        "tokens_per_second": sum(s["tokens"] for s in steps[2:]) / max(sum(s["seconds"] for s in steps[2:]), 1e-9),
        "gauges": beats[-1] if beats else None,
        "warnings": [e.get("text") for e in told if e["kind"] in ("warning", "recovery")],
        "scores": {when: {k: v for k, v in s.items() if isinstance(v, float)} for when, s in scores.items()},
        "predicted_memory": about.get("predicted_memory"),
        "memory": report.get("memory"),
        "last_words": "" if as_wanted["done"] else run.last_words()[-1200:],
    }


def stop_and_resume(work: Path, model: str, epochs: int) -> dict[str, Any]:
    """A run that is stopped after some steps goes on to the end, with as many steps as one that was not."""
    folder = work / "runs-stop"
    begun = loracle(
        "--auto", "--model", model, *SUPPORT, "--method", "full", "--detach", "--set", f"epochs={epochs}",
        "--set", "early_stopping=false", "--set", "effective_batch=8", "--runs", str(folder),
    )  # fmt: skip
    made = sorted(folder.glob("*/plan.yaml"))
    if not made:
        return {"holds": False, "said": (begun.stdout + begun.stderr)[-1500:]}
    run = RunDirectory(made[-1].parent)
    until(lambda: any(e["kind"] == "step" for e in read_events(run.events)), 120)
    stopped_at = run.state().step
    with contextlib.suppress(LoracleError):  # it may have ended by itself meanwhile: its status tells
        runs.stop(run)
    until(lambda: run.state().status in FINISHED, 60)
    status = run.state().status
    ended = next((e for e in reversed(list(read_events(run.events))) if e["kind"] == "end"), {})
    if status == "stopped":
        runs.resume(run)
        time.sleep(1)
        until(lambda: run.state().status in FINISHED, 150)
    with contextlib.suppress(LoracleError):
        runs.stop(run, now=True)  # nothing may go on behind this check
    steps = [e["step"] for e in read_events(run.events) if e["kind"] == "step"]
    holds = status == "stopped" and ended.get("code") == 5 and run.state().status == "done"
    whole = sorted(set(steps)) == list(range(1, max(steps, default=0) + 1))
    return {
        "holds": holds and whole,
        "asked_at_step": stopped_at,
        "stopped": ended,
        "steps": len(set(steps)),
        "end": run.state().status,
        "last_words": "" if holds else run.last_words()[-1200:],
    }


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for it, so long at most."""
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.1)
