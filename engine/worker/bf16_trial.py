"""Whether bf16 pays on this CPU: training steps of a model both ways in turns, from the same start. A child does it.

With the model's own first layers where its weights are on this machine; else with random ones, of which speed and agreement
can be told as well; the layers that it lacks are counted with what the others take. Timed is the processor time of this thread,
which has its share of every product and all of the rest: a neighbour that takes the cores for a moment is in no step.
"""

import copy
import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch

from engine.prediction.heads import HEADS
from engine.worker import causal, generic_text, modeling
from engine.worker.layer_time import LayerTime
from engine.worker.precision import autocast
from engine.worker.tasks.base import Task
from engine.worker.tasks.registry import task_of
from engine.worker.tracing import unproved
from engine.worker.tracing.models import at_depth, empty_model, fresh_modules, quiet
from engine.worker.trainer import seed_everything
from recommender.errors import LoracleError
from recommender.plan import Plan

STEPS = 3
"""Timed of each at most; the fastest counts, because the others were disturbed."""
CLEAR = 0.75, 1.45
"""Speedups below and above which no further turn is taken. Of 76 turns of MiniLM and SmolLM2 beside other work the lowest told
0.75 of their median and the highest 1.4 of it: beyond these bounds, one decides as a median would that is not within a tenth of
`BF16_GAIN`."""
ALIKE = 0.05
"""As a share: where the speedups of two turns are no further apart, nobody disturbed them, and no third is taken."""
ENOUGH = 4.0
"""Seconds of processor time after which no further step is timed."""
BUSY = 8.0
"""Seconds by the clock after which none is: others compute here."""
LONG = 35.0
"""Seconds after which no further method is begun: a busy machine answers in part."""
SEED = 1
BYTES = 26
"""Of a parameter: weights and moments of one model, gradients of both precisions, and the bf16 copies; SmolLM2 took 23."""


def trials(request: dict[str, Any]) -> dict[str, Any]:
    """Under `methods`: speedup, losses and distance of the gradients by method; a method that cannot be tried is left out.

    `whole` says that none was left out, or told by fewer steps than it would take alone, for lack of time.
    """
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {}
    begin, given, whole = time.monotonic(), None, True
    for method, settings in request["methods"].items():
        if time.monotonic() - begin > LONG:
            return {"methods": found, "whole": False}
        try:
            with quiet():
                given = given or _Given(request)
                found[method], at_leisure = _trial(given, method, settings)
                whole = whole and at_leisure
        except (LoracleError, RuntimeError, MemoryError, ValueError, TypeError, AttributeError, NotImplementedError, KeyError):
            continue
    return {"methods": found, "whole": whole}


class _Given:
    """What all methods and both precisions have in common."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request, self.folder = request, Path(request["path"])
        words = _plan(request, "full", {}, "fp32").task == "token_classification"
        self.tokenizer = modeling.load_tokenizer(str(self.folder), words=words)
        self.rows = rows_of(self.tokenizer, request["rows"], request["length"])
        task = self.task(_plan(request, "full", {}, "fp32"))
        with torch.device("meta"):
            self._parameters = sum(p.numel() for p in task.model_class().from_config(self.config(task)).parameters())

    def task(self, plan: Plan) -> Task:
        return task_of(plan, list(plan.data.labels or []), self.tokenizer.pad_token_id, self.request["family"])

    def config(self, task: Task) -> Any:
        """At the depth that is tried."""
        config, layers = modeling.load_config(str(self.folder), task), self.request["layers"]
        return config if layers is None else at_depth(config, layers)

    def check_memory(self) -> None:
        """
        Raises:
            MemoryError: both models would not fit.
        """
        if BYTES * self._parameters > psutil.virtual_memory().available:
            raise MemoryError


class _Side:
    """One precision: a model, its rows and its optimizer, which leaves the weights as they are."""

    def __init__(self, given: _Given, method: str, settings: dict[str, Any], precision: str) -> None:
        plan = _plan(given.request, method, settings, precision)
        self.task, self.precision = given.task(plan), precision
        seed_everything(SEED)
        config = given.config(self.task)
        given.check_memory()
        if any(given.folder.glob("*.safetensors")):
            self.model = modeling.build(self.task, str(given.folder), config).model
        else:
            head = HEADS.get(plan.task, "causal_lm")
            made = empty_model(config, head, modeling.weights_dtype(plan), "sdpa", "cpu")
            self.model = modeling.prepared(made, self.task, fresh_modules(made, head))
        # That decoders may be read packed is taken for granted, as in traces: a run proves it, by seven passes or nine.
        with mock.patch.multiple(causal, prepare=unproved.packed, reads_once=lambda _: False):
            self.task.adopt(self.model)
        self.model.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        layers, depth = given.request["layers"], given.request["depth"]
        self._more: float = 0.0 if layers is None else (depth - layers) / max(layers - 1, 1)
        """Times what all layers but the last one take."""
        self._layers = LayerTime(self.model, layers or 0)
        self.optimizer = torch.optim.AdamW(self.trained, lr=0.0, fused=True)
        self.rows = given.rows, [_target(self.task, row, i) for i, row in enumerate(given.rows)]

    def gradients(self) -> tuple[float, float]:
        """Gradients of one step, left behind; its loss a unit, and the seconds of that at the model's own depth."""
        seed_everything(SEED)
        begin = time.thread_time()
        with autocast(torch.device("cpu"), self.precision):
            loss = self.task.total(self.model, *self.rows) / self.task.weight(self.rows[1])
        loss.backward()
        took = time.thread_time() - begin
        return float(loss.detach()), took + self._more * self._layers.taken()

    def first(self) -> tuple[float, list[torch.Tensor | None]]:
        """Loss and gradients of the first step, which warms up and makes the moments."""
        loss, _ = self.gradients()
        found = [p.grad for p in self.trained]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss, found

    def update(self) -> float:
        """The rest of the step; its seconds at that depth."""
        begin = time.thread_time()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        inner, trained = self._layers.parameters, sum(p.numel() for p in self.trained)
        return float((time.thread_time() - begin) * (1 + self._more * inner / trained))


def _trial(given: _Given, method: str, settings: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """What is told of the method, and whether nothing cut its timing short."""
    wide, narrow = _sides(given, method, settings)
    (loss_fp32, wanted), (loss, found) = wide.first(), narrow.first()
    numbers = {"loss": loss, "gradients_apart": _apart(found, wanted)}
    del wanted, found
    took: list[tuple[float, float]] = []
    begin, at_leisure = time.monotonic(), True
    while len(took) < STEPS and not _known(took) and sum(map(sum, took)) <= ENOUGH:
        if took and time.monotonic() - begin > BUSY:
            at_leisure = False
            break
        took.append((wide.gradients()[1] + wide.update(), narrow.gradients()[1] + narrow.update()))
    known: dict[str, Any] = {name: value if 0 <= value < 1e6 else None for name, value in numbers.items()}  # not a number: None
    return known | {"loss_fp32": loss_fp32, "speedup": _speedup(took)}, at_leisure


def _sides(given: _Given, method: str, settings: dict[str, Any]) -> tuple[_Side, _Side]:
    """fp32 and bf16. Full fine-tuning holds its weights in fp32 either way: one model takes the steps of both."""
    wide = _Side(given, method, settings, "fp32")
    if method != "full":
        return wide, _Side(given, method, settings, "bf16-mixed")
    narrow = copy.copy(wide)
    narrow.precision = "bf16-mixed"
    return wide, narrow


def _known(took: list[tuple[float, float]]) -> bool:
    """Whether the turns tell clearly if bf16 pays, or the last two the same speedup."""
    last = [wide / narrow for wide, narrow in took[-2:]]
    agree = len(last) == 2 and max(last) <= (1 + ALIKE) * min(last)
    return agree or (bool(took) and not CLEAR[0] < _speedup(took) < CLEAR[1])


def _speedup(took: list[tuple[float, float]]) -> float:
    """Of the fastest step either way."""
    return min(wide for wide, _ in took) / min(narrow for _, narrow in took)


def _apart(found: list[torch.Tensor | None], wanted: list[torch.Tensor | None]) -> float:
    """Distance of the gradients, as a share of the wanted one's length."""
    difference = length = 0.0
    for mine, theirs in zip(found, wanted, strict=True):
        a, b = (torch.zeros(1) if gradient is None else gradient.float() for gradient in (mine, theirs))  # there should be one
        difference += float((a - b).square().sum())
        length += float(b.square().sum())
    return float((difference / max(length, 1e-30)) ** 0.5)


def rows_of(tokenizer: Any, rows: int, length: int) -> list[list[int]]:
    """So many rows of that many tokens, of generic text."""
    ids: list[int] = []
    for text in generic_text.TEXTS:
        ids += tokenizer(text, add_special_tokens=False, return_attention_mask=False)["input_ids"]
    ids *= -(-rows * length // max(len(ids), 1))
    return [ids[i * length : (i + 1) * length] for i in range(rows)]


def _target(task: Task, row: list[int], number: int) -> Any:
    """What is to be said of that row."""
    labels = max(len(task.labels), 1)
    match task.plan.task:
        case "classification":
            return number % labels
        case "regression":
            return float(number % 2)
        case "multi_label":
            return [i for i in range(labels) if (number + i) % 2]
        case "token_classification":
            places = list(range(len(row)))
            return {"places": places, "words": places, "tags": [i % labels for i in places], "count": len(row)}
    return list(row)


def _plan(request: dict[str, Any], method: str, settings: dict[str, Any], precision: str) -> Plan:
    task = "chat" if request["task"] == "preference" else request["task"]  # the same passes
    return Plan.model_validate(
        {
            "model": {"id": request["path"]},
            "data": {"train": "tried", "labels": [f"label {i}" for i in range(request["classes"])]},
            "task": task,
            "method": method,
            "learning_rate": 1e-6,
            "epochs": 1.0,
            "effective_batch": request["rows"],
            "max_length": max(request["length"], 2),
            "token_budget": request["rows"] * request["length"],
            "precision": precision,
            **(settings if method != "full" else {}),
        }
    )
