"""What makes steps quicker computes the same, is taken out where it does not, and nothing is lost by that."""

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_layers import GradientCheckpointingLayer

from engine.files import read_json
from engine.rundir import RunDirectory
from engine.worker import compiled, faster, liger, products, unpadded
from engine.worker.batches import padded
from engine.worker.modeling import build
from engine.worker.tasks.chat import Chat
from recommender.plan import Plan
from tests.conftest import make_plan
from tests.engine.worker.conftest import Here
from tests.engine.worker.inside import events, work
from tests.engine.worker.writing import plan_of


@pytest.fixture(scope="module")
def plan(tiny_llama: Path) -> Plan:
    """Eight steps of a decoder with LoRA that classifies."""
    return make_plan(tiny_llama, "lora", epochs=1.0, evaluations=1, dropout=0.0, data={"train_rows": 88, "eval_rows": 20})


@pytest.fixture(scope="module")
def usual(plan: Plan, run_here: Here) -> RunDirectory:
    return run_here(plan)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    torch.compiler.reset()


def losses(run: RunDirectory) -> list[float]:
    return [e["loss"] for e in events(run, "step")]


def told(run: RunDirectory) -> list[str]:
    return [e["text"] for e in events(run, "recovery")]


class Backend:
    """In the place of inductor: runs each graph as it is, and counts."""

    def __init__(self) -> None:
        self.graphs = self.calls = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1

        def run(*args: Any) -> Any:
            self.calls += 1
            return graph(*args)

        return run


@pytest.mark.faults
def test_a_compiled_run_learns_the_same_and_compiles_once(
    plan: Plan, usual: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend()
    monkeypatch.setattr(compiled, "BACKEND", backend)
    run = run_here(plan.model_copy(update={"compile": True}))
    assert not told(run)
    assert losses(run) == pytest.approx(losses(usual), rel=1e-5)
    assert backend.calls > 30
    assert backend.graphs <= 6, "one compilation serves all layers and micro-batches of every length"
    assert read_json(run.report_file)["computing"]["compile"] is True


@pytest.mark.faults
def test_what_rows_begin_with_alike_compiles_nothing_anew(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    monkeypatch.setattr(compiled, "BACKEND", backend)
    task = Chat(plan_of(tiny_chat, "lora"), [], 0)
    model = build(task, str(tiny_chat)).model
    task.adopt(model)
    assert task.once
    compiled.Compiled(model)
    graphs = []
    for number in (2, 3, 5, 4):
        rows = [[*range(5, 15 + number), 20 + i, 30 + i] for i in range(number)]
        task.total(model.train(), rows, rows).backward()
        graphs.append(backend.graphs)
    assert graphs[1] == graphs[-1], "sizes are left open from the second batch on"


@pytest.mark.faults
def test_a_last_layer_for_first_tokens_stays_as_it_is_beside_compiled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend()
    monkeypatch.setattr(compiled, "BACKEND", backend)
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes, **still))
    assert unpadded.prepare(model) is None
    batch = padded([torch.randint(5, 64, (n,)).tolist() for n in (9, 4, 7)], 0, "cpu")
    found = []
    for put_in in (None, compiled.Compiled):
        change = put_in(model) if put_in is not None else None
        model.train().zero_grad()
        logits = model(**batch).logits
        logits.square().sum().backward()
        found.append((logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)))
    for got, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert backend.calls >= 2, "two of three layers"
    assert change is not None
    change.undo()
    assert [("forward" in vars(layer)) for layer in model.bert.encoder.layer] == [False, False, True]


def test_where_nothing_can_be_compiled_the_layers_are_computed_as_they_are(
    plan: Plan, usual: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("cannot allocate memory for cc1plus")  # the compiler's, and not the step's

    monkeypatch.setattr(compiled, "BACKEND", fails)
    run = run_here(plan.model_copy(update={"compile": True}))
    assert losses(run) == losses(usual)
    why = "cannot allocate memory for cc1plus"
    assert told(run) == [f"Without torch.compile: {why}. The steps are slower; the result does not change."]
    assert read_json(run.report_file)["computing"]["compile"] is False


def test_nothing_is_compiled_where_that_would_multiply_more_slowly(
    plan: Plan, usual: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", Backend())
    monkeypatch.setattr(products, "in_use", lambda: "onednn")
    run = run_here(plan.model_copy(update={"compile": True}))
    assert losses(run) == losses(usual)
    assert "on this processor oneDNN is faster" in told(run)[0]
    assert read_json(run.report_file)["computing"]["compile"] is False


def test_a_missing_compiler_is_named() -> None:
    from torch._inductor.exc import InductorError, InvalidCxxCompiler

    error = InductorError(InvalidCxxCompiler(), None)
    assert compiled.from_compiler(error)
    assert compiled.reason(error) == "there is no C++ compiler"


class Broken:
    """Something put into a model: it counts what goes through the first layer, and does to that what the test wants."""

    words, setting = "torch.compile", "compile"
    calls = 0
    wanted: Callable[[int, torch.Tensor], torch.Tensor]

    def __init__(self, model: Any) -> None:
        self.layer = next(m for m in model.modules() if isinstance(m, GradientCheckpointingLayer))
        usual = self.layer.forward

        def forward(*args: Any, **kwargs: Any) -> torch.Tensor:
            if not torch.is_grad_enabled():
                return usual(*args, **kwargs)
            Broken.calls += 1
            return type(self).wanted(Broken.calls, usual(*args, **kwargs))

        self.layer.forward = forward

    def undo(self) -> None:
        del self.layer.forward


def put_in(monkeypatch: pytest.MonkeyPatch, wanted: Callable[[int, torch.Tensor], torch.Tensor]) -> None:
    monkeypatch.setattr(Broken, "calls", 0)
    monkeypatch.setattr(faster, "Compiled", type("Broken", (Broken,), {"wanted": staticmethod(wanted)}))


def late(error: BaseException, at: int | None = None) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """It breaks at the second micro-batch of a step, or `at` that call."""

    def wanted(call: int, out: torch.Tensor) -> torch.Tensor:
        if call == (at or LATE):
            raise error
        return out

    return wanted


LATE = 9


def test_what_breaks_in_the_middle_of_a_run_repeats_the_step_without_it(
    plan: Plan, usual: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, late(AssertionError("expected size 3==4")))
    run = run_here(plan.model_copy(update={"compile": True}))
    assert Broken.calls == LATE
    assert len(events(run, "step")) == len(losses(usual))
    assert losses(run) == losses(usual)
    assert told(run) == ["Without torch.compile: expected size 3==4. The steps are slower; the result does not change."]


@pytest.mark.parametrize("at", [2, LATE], ids=["longest rows", "training"])
def test_a_gpu_that_fails_repeats_nothing_and_the_setting_is_named(
    plan: Plan, begin: Callable[[Plan], RunDirectory], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(products, "fastest", lambda: "mkl")  # else a worker here compiles nothing
    put_in(monkeypatch, late(RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), at))
    run = begin(plan.model_copy(update={"compile": True}))
    end = work(run)
    assert (end["status"], end["code"], end["setting"]) == ("failed", 4, "compile=false")
    assert end["cause"] == "The GPU failed in a step with torch.compile: CUDA error: an illegal memory access was encountered."
    assert Broken.calls == at
    assert not told(run)


def test_memory_that_runs_out_is_no_reason_to_give_it_up(plan: Plan, run_here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, late(RuntimeError("DefaultCPUAllocator: can't allocate memory")))
    run = run_here(plan.model_copy(update={"compile": True}))
    assert Broken.calls > LATE
    assert [list(e["after"]) for e in events(run, "recovery")] == [["token_budget"]]
    assert read_json(run.report_file)["computing"]["compile"] is True


def test_what_computes_something_else_is_not_used(
    plan: Plan, usual: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, lambda call, out: 1.01 * out)
    run = run_here(plan.model_copy(update={"compile": True}))
    assert losses(run) == losses(usual)
    assert "a batch gets another loss" in told(run)[0]
    assert "other gradients" in told(run)[0]


@pytest.mark.faults
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_inductor_itself(tiny_llama: Path, run_here: Here, method: str, checkpointing: bool) -> None:
    plan = make_plan(tiny_llama, method, epochs=1.0, evaluations=1, gradient_checkpointing=checkpointing)
    run, other = run_here(plan.model_copy(update={"compile": True})), run_here(plan)
    assert not told(run)
    assert losses(run) == pytest.approx(losses(other), rel=1e-4)


@pytest.mark.faults
def test_inductor_on_an_encoder_with_dropout(tiny: Path, run_here: Here) -> None:
    plan = make_plan(tiny, epochs=1.0, evaluations=1)
    run, other = run_here(plan.model_copy(update={"compile": True})), run_here(plan)
    assert not told(run)
    assert losses(run) == pytest.approx(losses(other), rel=1e-3)


# Liger, which needs a GPU: a stand-in with its interface, that patches as Liger does


def stand_in(factor: float = 1.0) -> types.ModuleType:
    """`liger_kernel.transformers.monkey_patch` for Llamas: a forward bound to each norm, a function replaced in transformers."""

    def norm(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        norms.append(self)
        variance = hidden.float().pow(2).mean(-1, keepdim=True)
        return factor * self.weight * (hidden * torch.rsqrt(variance + self.variance_epsilon)).to(hidden.dtype)

    def llama(rope: bool = True, rms_norm: bool = True, swiglu: bool = True, cross_entropy: bool = False,
              fused_linear_cross_entropy: bool = True, model: Any = None) -> None:  # fmt: skip
        assert not cross_entropy
        assert not fused_linear_cross_entropy
        from transformers.models.llama import modeling_llama

        right = modeling_llama.apply_rotary_pos_emb
        modeling_llama.apply_rotary_pos_emb = lambda *args: right(*args)
        for module in model.modules():
            if type(module).__name__ == "LlamaRMSNorm":
                module.casting_mode = "llama"
                module.__dict__["forward"] = norm.__get__(module, type(module))

    norms: list[Any] = []
    made: Any = types.ModuleType("liger_kernel.transformers.monkey_patch")
    made.norms = norms
    made.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": llama}
    made._apply_liger_kernel_to_instance = lambda model, **kw: made.MODEL_TYPE_TO_APPLY_LIGER_FN[model.config.model_type](
        model=model, **kw
    )
    return made  # type: ignore[no-any-return]


def install(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None) -> None:
    monkeypatch.setattr(liger, "DEVICES", ("cpu",))
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", module)


def test_ligers_kernels_are_compared_used_and_taken_out_again(
    plan: Plan, usual: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.llama import modeling_llama

    right = modeling_llama.apply_rotary_pos_emb
    package: Any = stand_in()
    install(monkeypatch, package)
    run = run_here(plan.model_copy(update={"kernels": "liger"}))
    assert not told(run)
    assert losses(run) == pytest.approx(losses(usual), rel=1e-4)
    assert len(package.norms) > 50
    assert read_json(run.report_file)["computing"]["kernels"] == "liger"
    assert modeling_llama.apply_rotary_pos_emb is right, "the model that is scored is computed as anybody would"
    assert not any("forward" in vars(norm) for norm in package.norms)
    assert not any(hasattr(norm, "casting_mode") for norm in package.norms)


def test_kernels_that_compute_something_else_are_left_out(
    plan: Plan, usual: RunDirectory, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, stand_in(1.02))
    run = run_here(plan.model_copy(update={"kernels": "liger"}))
    assert losses(run) == losses(usual)
    assert len(told(run)) == 1
    assert told(run)[0].startswith("Without Liger's kernels: a batch gets another loss")
    computing = read_json(run.report_file)["computing"]
    assert (computing["kernels"], computing["padded"]) == ("torch", False)


def test_kernels_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="need an NVIDIA GPU, and the model is on cpu"):
        liger.Liger(model)
    install(monkeypatch, None)
    with pytest.raises(ValueError, match=r"not installed; `pip install 'loracle\[liger\]'`"):
        liger.Liger(model)


def test_looking_for_liger_imports_nothing() -> None:
    code = "import sys; from engine.inspection import machine; machine.liger(); print({'triton', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
