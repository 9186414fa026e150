"""Memory runs out anywhere: the run goes on, and what comes out is what would have come out."""

import json
import random
import resource
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from engine.launch import ALLOCATOR
from engine.rundir import RunDirectory
from engine.worker import generating, memory
from engine.worker.budget import is_out_of_memory, out_of_memory
from engine.worker.saving import SavingTrainer
from engine.worker.tasks.base import Task
from engine.worker.tasks.classification import Classification
from engine.worker.tasks.registry import TASKS
from engine.worker.tasks.seq2seq import Seq2Seq
from engine.worker.trainer import LogicalBatchTrainer
from recommender.errors import InputError
from recommender.plan import Plan
from tests.conftest import make_plan
from tests.engine.worker.conftest import Begin, Here
from tests.engine.worker.inside import events, work
from tests.engine.worker.works import ROWS, plan_of

ENCODER_AND_DECODER = ("tiny_still", "still_llama")
MODELS = {"seq2seq": ("tiny_t5",), **dict.fromkeys(("chat", "continued_pretraining", "preference"), ("tiny_chat",))}
"""Of kinds of work; of those that judge texts both."""
ERRORS: list[Callable[[], BaseException]] = [
    lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError,
    lambda: ImportError("libgomp.so.1: failed to map segment from shared object"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, at: set[int], after: bool = False, task: type[Task] = Classification
) -> list[int]:
    """Let those calls of a method of the task run out of memory, before or after it has done its work; which did."""
    right, calls, failed = getattr(task, name), iter(range(10**9)), []

    def wrong(self: Any, *args: Any) -> Any:
        number = next(calls)
        if number not in at:
            return right(self, *args)
        failed.append(number)
        if after:
            right(self, *args)
        raise ERRORS[number % len(ERRORS)]()

    monkeypatch.setattr(task, name, wrong)
    return failed


@pytest.fixture(scope="module")
def plan(tiny_still: Path) -> Plan:
    """Twelve steps and two evaluations, without dropout."""
    return make_plan(tiny_still, token_budget=512, epochs=1.0, evaluations=2)


@pytest.fixture(scope="module")
def undisturbed(plan: Plan, run_here: Here) -> RunDirectory:
    return run_here(plan)


def same(run: RunDirectory, other: RunDirectory) -> None:
    """The loss curve, the evaluations, the schedule and the weights agree but for rounding."""
    for name, tolerance in (("loss", 1e-4), ("learning_rate", 0.0), ("grad_norm", 1e-3), ("epoch", 0.0), ("tokens", 0.0)):
        got, expected = ([e[name] for e in events(r, "step")] for r in (run, other))
        assert got == pytest.approx(expected, rel=tolerance), name
    scored = [[e["metrics"]["loss"] for e in events(r, "evaluation") if e["split"] != "majority"] for r in (run, other)]
    assert scored[0] == pytest.approx(scored[1], rel=1e-3)
    one, two = (load_file(next(r.model.glob("*.safetensors"))) for r in (run, other))
    for name, weight in two.items():
        torch.testing.assert_close(one[name], weight, rtol=1e-2, atol=2e-4, msg=name)


def disturbed(
    plan: Plan, run: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch, seed: int,
    task: type[Task] = Classification, calls: tuple[int, int] = (40, 30),
) -> None:  # fmt: skip
    """Three times among the first `calls` of a training micro-batch, twice among those of scoring."""
    rng = random.Random(seed)
    with monkeypatch.context() as inside:
        training = failing(inside, "total", {rng.randrange(calls[0]) for _ in range(3)}, rng.random() < 0.5, task)
        scoring = failing(inside, "answers", {rng.randrange(calls[1]) for _ in range(2)}, task=task)
        run_here(plan, again=run)
    assert training or scoring
    assert events(run, "recovery")
    assert all("Each step still learns from the same rows." in e["text"] for e in events(run, "recovery"))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.faults) for seed in range(1, 25))])
def test_the_loss_curve_is_that_of_the_undisturbed_run_wherever_memory_runs_out(
    plan: Plan, undisturbed: RunDirectory, run_here: Here, begin: Begin, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    run = begin(plan)
    disturbed(plan, run, run_here, monkeypatch, seed)
    same(run, undisturbed)


@pytest.fixture(scope="module")
def still_llama(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose head for tokens, too, drops nothing."""
    folder = tmp_path_factory.mktemp("models") / "still-llama"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_text()) | {"classifier_dropout": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize(("work", "model"), [(work, model) for work in ROWS for model in MODELS.get(work, ENCODER_AND_DECODER)])
def test_every_task_and_method_that_runs_out_of_memory_learns_as_if_it_had_not(
    run_here: Here, begin: Begin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest,
    work: str, model: str, method: str, seed: int,
) -> None:  # fmt: skip
    """While what the untouched model says is asked, too; and while answers are written."""
    where = request.getfixturevalue(model)
    fields = {"dropout": 0.0} if method != "full" else {}
    plan = plan_of(tmp_path / "rows.jsonl", work, where, method, evaluations=2, epochs=2.0, **fields)
    task = Seq2Seq if work == "seq2seq" else TASKS[work if work != "pairs" else "classification"]
    undisturbed, run = run_here(plan), begin(plan)
    rng = random.Random(f"{work} {method} {seed}")
    with monkeypatch.context() as inside:
        if work == "preference":
            failing(inside, "likelihoods", {0, rng.randrange(1, 4)}, task=task)
        write, calls = generating.write, iter(range(10**9))

        def wrong(*given: Any, **named: Any) -> Any:
            if next(calls) in (0, 3):
                raise ERRORS[seed % len(ERRORS)]()
            return write(*given, **named)

        inside.setattr(generating, "write", wrong)
        disturbed(plan, run, run_here, monkeypatch, seed, task, (10, 6))
    same(run, undisturbed)
    scores = [(r.report() or {})["scores"]["after"] for r in (run, undisturbed)]
    assert {k: v for k, v in scores[0].items() if isinstance(v, float)} == pytest.approx(
        {k: v for k, v in scores[1].items() if isinstance(v, float)}, rel=1e-2, abs=1e-3
    )


def test_an_evaluation_that_runs_out_of_memory_scores_the_same_rows_in_smaller_pieces(
    plan: Plan, undisturbed: RunDirectory, run_here: Here, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(plan)
    scored = len(events(undisturbed, "preflight")[0]["batches"])
    failed = failing(monkeypatch, "answers", {scored, scored + 3})  # before training, and while it goes on
    run_here(plan, again=run)
    assert len(failed) == 2
    same(run, undisturbed)


def test_no_memory_for_one_row_in_the_middle_of_a_run_ends_it_with_its_checkpoint_kept(
    tiny_still: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = LogicalBatchTrainer.training_step

    def from_the_eighth(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 8:
            failing(monkeypatch, "total", set(range(10**4)))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(LogicalBatchTrainer, "training_step", from_the_eighth)
    run = begin(make_plan(tiny_still, epochs=1.0, evaluations=4))
    end = work(run)
    assert (end["status"], end["code"], end["checkpoint"]) == ("failed", 4, 6)
    assert "even one row" in end["cause"]
    assert "LoRA or QLoRA" in end["cause"]
    assert "continues from step 6" in end["cure"]
    assert [e["step"] for e in events(run, "step")] == list(range(1, 9))
    after = [next(iter(e["after"])) for e in events(run, "recovery")]
    assert after[-1] == "gradient_checkpointing", "which is tried once nothing smaller can be"


def test_an_optimizer_step_without_memory_is_one_sentence(
    tiny_still: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has changed some weights and not others, so it cannot be done again."""
    clip = LogicalBatchTrainer._clip_grad_norm

    def full(self: Any, model: Any) -> Any:
        if self.state.global_step == 7:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return clip(self, model)

    monkeypatch.setattr(LogicalBatchTrainer, "_clip_grad_norm", full)
    end = work(begin(make_plan(tiny_still, epochs=1.0, evaluations=2)))
    assert (end["status"], end["code"], end["checkpoint"]) == ("failed", 4, 6)
    assert end["cause"] == "Memory ran out while the optimizer took a step."


def test_a_gpu_that_is_full_before_the_first_micro_batch_is_room_to_be_made(
    tiny_still: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's loss of four bytes was asked for where nothing smaller could be tried."""
    zeros, step = torch.zeros, LogicalBatchTrainer.training_step

    def full(*size: Any, device: Any = None, **options: Any) -> Any:
        if size == ((),) and device is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB")
        return zeros(*size, **options)

    def at_step(self: Any, *given: Any, **options: Any) -> Any:
        with monkeypatch.context() as inside:
            inside.setattr(torch, "zeros", full)
            return step(self, *given, **options)

    monkeypatch.setattr(LogicalBatchTrainer, "training_step", at_step)
    assert work(begin(make_plan(tiny_still, epochs=0.2, evaluations=1)))["status"] == "done"


def test_no_memory_for_the_best_weights_is_named_and_the_run_goes_on_from_there(
    tiny_still: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise RuntimeError("unable to mmap 90877192 bytes from file: Cannot allocate memory (12)")

    run = begin(make_plan(tiny_still, epochs=0.2, evaluations=1))
    with monkeypatch.context() as inside:
        inside.setattr(LogicalBatchTrainer, "load_weights", full)
        assert work(run)["cause"] == "Memory ran out while the best weights were loaded."
    assert work(run)["status"] == "done"


def test_a_checkpoint_that_lacks_weights_is_refused_and_what_is_tied_is_not_missed(tiny_chat: Path) -> None:
    trainer: Any = SimpleNamespace(model=AutoModelForCausalLM.from_pretrained(tiny_chat))

    def look(*missing: str) -> None:
        SavingTrainer._issue_warnings_after_load(trainer, SimpleNamespace(missing_keys=missing))

    look("lm_head.weight")
    with pytest.raises(InputError, match=r"no weights for model\.norm\.weight; start"):
        look("lm_head.weight", "model.norm.weight")
    trainer.model._keys_to_ignore_on_save = ["model.norm.weight"]
    look("lm_head.weight", "model.norm.weight")


def test_a_checkpoint_without_memory_is_tried_again_and_then_one_sentence(
    tiny_still: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = LogicalBatchTrainer._write, iter([False, True, False, True, True])

    def full(self: Any, folder: Path) -> int:
        written = write(self, folder)
        if next(calls):
            raise MemoryError
        return written

    monkeypatch.setattr(LogicalBatchTrainer, "_write", full)
    run = begin(make_plan(tiny_still, epochs=1.0, evaluations=3))
    end = work(run)
    assert (end["status"], end["code"], end["checkpoint"]) == ("failed", 4, 8)
    assert end["cause"] == "Memory ran out while the checkpoint of step 12 was written; what was saved before is intact."
    assert "continues from step 8" in end["cure"]
    assert sorted(folder.name for folder in run.checkpoints.iterdir()) == ["step-4", "step-8"]


def test_libraries_that_cannot_begin_on_a_full_card_say_so_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")
    assert not is_out_of_memory(error), "no card is here that could be full"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for free, full in ((2 * 2**30, False), (200 * 2**20, True)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, 8 * 2**30))
        assert is_out_of_memory(error) is full
        assert not is_out_of_memory(RuntimeError("index out of range in self"))

    def failed() -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", failed)
    assert not is_out_of_memory(error), "it is the card that has failed"


def test_frames_of_every_error_on_the_way_let_go_of_their_memory() -> None:
    held: list[weakref.ref[Any]] = []

    def step(beyond: bool) -> None:
        tensor = torch.ones(1)
        held.append(weakref.ref(tensor))
        try:
            if beyond:
                step(False)
            else:
                raise torch.OutOfMemoryError("CUDA out of memory")
        except RuntimeError as error:
            raise RuntimeError("a library: out of memory") from (error if beyond else None)

    failure = None
    try:
        step(True)
    except RuntimeError as error:
        failure = out_of_memory(error)
    assert failure is not None
    assert [tensor() for tensor in held] == [None, None]


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what is asked for on Linux only")
def test_below_a_limit_of_the_process_s_own_there_is_room_for_small_things(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries and Python itself break where nothing at all is left."""
    own, drawn = 10**9, [0]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (own, own))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: drawn.append(limits[0]))
    monkeypatch.setattr(memory, "host_room", lambda: 10**12)
    monkeypatch.setattr(memory, "_held", lambda name: 10**8)
    with memory.Fence():
        assert drawn[-1] == own - memory.LEAST_ROOM
    assert drawn[-1] == own


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what is asked for on Linux only")
def test_the_fence_makes_the_allocator_say_no_instead_of_the_kernel_kill() -> None:
    """For real, in a process of its own: 300 MB may still be taken, 400 not, and afterwards all again.

    Then a kernel that oneDNN found no room for, after which it would never write another.
    """
    program = """
import resource
import torch
from engine.worker import memory
from engine.worker.budget import is_out_of_memory
memory.host_room = lambda: 300 * 1024**2
memory.RENEW_SECONDS = 0.0
with memory.Fence() as fence:
    held = torch.empty(200 * 1024**2 // 4)
    try:
        torch.empty(400 * 1024**2 // 4)
        print("taken")
    except RuntimeError as error:
        print("refused", is_out_of_memory(error))
    memory.host_room = lambda: 4 * 1024**3
    fence.renew()
    more = torch.empty(1024**3 // 4)
    memory.host_room = lambda: 0
    fence.renew()
again = torch.empty(1024**3 // 4)
print("done")

from engine.worker.budget import TokenBudget
free = [torch.ones(250_000) for _ in range(60)]
del free  # the heap keeps it, so that tensors find room and what is mapped beside them does not
soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (memory._held("VmData:") - 2**24, hard))
failure = None
try:
    torch.nn.functional.gelu(torch.ones(777, 100))
except RuntimeError as error:
    failure = error
resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
if failure is not None:
    TokenBudget(100, lambda before, after: None).shrink(failure, longest=10, rows=2)
torch.nn.functional.gelu(torch.ones(778, 100))
print("computed")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
        cwd=Path(__file__).parents[3], env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"} | ALLOCATOR,
    )  # fmt: skip
    assert done.stdout.split("\n")[:3] == ["refused True", "done", "computed"], done.stderr
