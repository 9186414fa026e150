"""The engine's own step, traced: its preparation of the model, its task, its micro-batch, its optimizer."""

import contextlib
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from engine.prediction import heads
from engine.worker import attention, causal, grouped, layout, modeling, unpadded
from engine.worker.arguments import OPTIMIZERS
from engine.worker.inner import body_of, inner_of
from engine.worker.precision import autocast
from engine.worker.tasks.registry import task_of
from engine.worker.tracing import unproved
from engine.worker.tracing.again import Again
from engine.worker.tracing.four_bit import quantise
from engine.worker.tracing.live import Marks
from engine.worker.tracing.made_rows import made_batch
from engine.worker.tracing.models import config_of, depth_of, fresh_modules, loaded, skeleton
from engine.worker.tracing.optimizers import BitsAndBytes, embeddings_of
from engine.worker.tracing.trace import workspace
from engine.worker.trainer import LogicalBatchTrainer
from recommender.errors import Refused
from recommender.facts import Family
from recommender.plan import Plan
from recommender.step import TrainingStep

WRITING = ("chat", "instruction", "continued_pretraining", "preference", "seq2seq")
HEADS = heads.HEADS | dict.fromkeys(WRITING, "causal_lm")
TASKS = {"classification": "classification", "tagging": "token_classification", "causal_lm": "chat"}
MIXED = {"bfloat16": "bf16-mixed", "float16": "fp16-mixed"}
NAMED = {"adamw": "adamw", "adamw_8bit": "adamw_8bit", "paged_adamw_8bit": "adamw_8bit_paged"}
"""A plan's optimizer by the step's."""


class OwnLoop:
    """A run's model, optimizer and steps; `lengths` are those of the micro-batch, taken `pieces` times a step; of the tokens of
    a model that writes the share `learned` carries loss, and only those reach its head; of an encoder-decoder that is what it
    writes, and it reads the share `read`; the longest of its sources is `longest` times their mean, and so are its targets. With
    `alike` what carries none is the same in both sequences of a preference, and read once where the engine does."""

    def __init__(
        self,
        config: dict[str, Any],
        plan: Plan,
        live: Marks,
        *,
        lengths: list[int],
        layers: int | None,
        workspace: int,
        pieces: int = 1,
        learned: float = 1.0,
        read: float = 1.0,
        longest: float = 1.0,
        alike: bool = False,
        steps: int = 2,
        device: str = "meta",
    ) -> None:
        """Build it, telling `live` how far it is. Of several `steps` the last is as all further ones are; a single one finds what
        the optimizer keeps made already.

        Raises:
            Refused, InputError: the model cannot be built, or the task cannot be traced.
        """
        if plan.task not in HEADS:
            raise Refused(f"cannot predict: a step of {plan.task} is not traced yet.")
        for cached in (attention._flash_agrees, layout.layout, grouped.band):
            cached.cache_clear()  # what an earlier trace kept is not memory of this one
        self._rows: Any = contextlib.nullcontext()
        self._live, self._workspace, self._pieces, self._plan, self._device = live, workspace, pieces, plan, device
        self._count = steps
        head = HEADS[plan.task]
        labels = list(plan.data.labels or [])
        self.config = config_of(config, layers=layers, labels=None if head == "causal_lm" else max(len(labels), 1))
        family: Family | None = "encoder-decoder" if getattr(self.config, "is_encoder_decoder", False) else None
        if family is not None and head == "causal_lm":
            head = "seq2seq"
        self._task = task_of(plan, labels, family=family)
        dtype = modeling.weights_dtype(plan)
        make = skeleton if plan.method == "qlora" else loaded
        model = make(self.config, head, dtype, "sdpa", device)
        fresh = fresh_modules(model, head)
        if plan.method == "qlora":
            live.phase("load 4 bit")
            quantise(model, kind="nf4", double=True, dtype=dtype, spare=fresh, device=device)
        live.phase("load adapters")
        with torch.device(self._device):
            self.model = modeling.prepared(model, self._task, fresh)
        live.phase("load adopt")
        with self._unproved(lengths, alike):
            self._task.adopt(self.model)
        self.model.train()
        self._batch = made_batch(plan.task, head, lengths, labels, learned, read=read, alike=alike, longest=longest)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.model, self.trained, plan)
        self._again = Again(live, self.trained)
        self.depth, self.vocabulary = depth_of(self.config), int(self.config.get_text_config().vocab_size)
        self._kept: list[torch.Tensor | None] = []
        self._which: str | None = None
        body = inner_of(self.model).get_decoder() if head == "seq2seq" else body_of(self.model)
        body.register_forward_hook(lambda *_: self._loss_begins())

    @property
    def packed(self) -> bool:
        """Whether it reads sequences laid end to end, without padding."""
        return self._task.packed

    def _unproved(self, lengths: list[int], alike: bool) -> Any:
        """On the meta device two passes cannot be compared, and a mask cannot be asked for its rows."""
        if self._device != "meta":
            return contextlib.nullcontext()
        self._rows = mock.patch.object(unpadded, "real_tokens", lambda mask: unproved.rows_of(mask, lengths))
        patched = contextlib.ExitStack()
        patched.enter_context(mock.patch.object(unpadded, "prepare", unproved.switched))
        patched.enter_context(mock.patch.object(causal, "prepare", unproved.packed))
        patched.enter_context(mock.patch.object(causal, "reads_once", lambda model: alike and not causal._drops(model)))
        return patched

    def _loss_begins(self) -> None:
        if self._which is not None:
            self._live.phase(f"{self._which}loss")
            self._which = None

    def run(self) -> None:
        """Take the steps and score once; phases of the first are named so."""
        trainer: Any = SimpleNamespace(
            _task=self._task,
            args=SimpleNamespace(device=torch.device(self._device), n_gpu=1),
            accelerator=SimpleNamespace(backward=self._backward, scaler=None),
        )
        kept: dict[str, Any] = {name: self._again.kept(getattr(grouped, name)) for name in ("layout", "band")}
        with self._rows, mock.patch.multiple(grouped, **kept):
            self._steps(trainer)

    def _steps(self, trainer: Any) -> None:
        everything, weight = list(range(len(self._batch.input_ids))), self._task.weight(self._batch.targets)
        if self._count == 1:
            self._live.phase("first optimizer")
            for p in self.trained:
                p.grad = torch.zeros_like(p)
            self._update()
        for turn in range(self._count):
            prefix = "" if turn == self._count - 1 else "first "
            for _piece in range(0 if turn and self._again.write() else self._pieces):
                self._prefix = prefix
                self._live.phase(f"{prefix}forward")
                if not self._kept:
                    self._kept.append(workspace(self._live, self._workspace, f"{prefix}forward"))
                self._which = prefix
                LogicalBatchTrainer._micro_step(trainer, self.model, self._batch, everything, weight)
            self._live.phase(f"{prefix}optimizer")
            self._again.passed()
            self._update()
            self._again.let_go()
        self._live.phase("evaluation")
        self._which = None
        self.model.eval()
        # Not inference mode, in which composite functions reach the count in one piece.
        with torch.no_grad(), autocast(torch.device(self._device), self._plan.precision):
            self._task.total(self.model, self._batch.input_ids, self._batch.targets)
        torch.empty(1, device=self._device)
        self._live.phase("save")
        torch.empty(1, device=self._device)

    def _update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.trained, self._plan.max_grad_norm)
        self.optimizer.step()
        for p in self.trained:
            p.grad = None

    def _backward(self, loss: torch.Tensor) -> None:
        self._which = None
        self._live.phase(f"{self._prefix}backward")
        if len(self._kept) < 2:  # one for each thread
            self._kept.append(workspace(self._live, self._workspace, f"{self._prefix}backward"))
        torch.autograd.backward([loss])


def _optimizer(model: Any, parameters: list[torch.nn.Parameter], plan: Plan) -> Any:
    """What the Trainer makes of the plan's."""
    named = OPTIMIZERS[plan.optimizer]
    if "8bit" in named:
        return BitsAndBytes(parameters, paged="paged" in named, wide=embeddings_of(model))
    return torch.optim.AdamW(parameters, lr=1e-3, fused="fused" in named or None, foreach=None)


def plan_of(step: TrainingStep) -> Plan:
    """The plan whose run takes such a step.

    Raises:
        Refused: the engine never takes one.
    """
    if step.head not in TASKS:
        raise Refused(f"cannot predict: Loracle has no task with the head {step.head}; use loss plain.")
    mixed = MIXED.get(step.autocast or "")
    if mixed is None and step.adapters:
        mixed = MIXED.get(step.base_dtype or "")
    elif mixed is None and step.base_dtype == "bfloat16":
        mixed = "bf16"
    task = TASKS[step.head]
    targets = step.target_modules
    adapters = {
        "rank": step.rank,
        "adapter_dtype": "bf16" if step.adapter_dtype == "bfloat16" and mixed == "bf16-mixed" else "fp32",
        "alpha": 32,
        "dropout": step.lora_dropout or 0.0,
        "dora": bool(step.dora),
        "target_modules": ",".join(targets) if isinstance(targets, list) else targets or "all-linear",
    }
    return Plan.model_validate(
        {
            "model": {"id": "traced"},
            "data": {"train": "traced", "labels": [f"label {i}" for i in range(step.labels or 2)]},
            "task": task,
            "method": step.method,
            "learning_rate": 1e-3,
            "epochs": 1.0,
            "effective_batch": step.micro_batch_rows,
            "max_length": max(step.length, 2),
            "token_budget": step.micro_batch_rows * step.length,
            "precision": mixed or "fp32",
            "gradient_checkpointing": step.checkpointed,
            "optimizer": NAMED[step.optimizer],
            **(adapters if step.adapters else {}),
        }
    )
