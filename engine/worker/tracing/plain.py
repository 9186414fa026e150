"""An ordinary training loop, as scripts with transformers and peft have it: the step that published measurements are about."""

import contextlib
from typing import Any
from unittest import mock

import torch
from transformers.integrations import sdpa_attention
from transformers.optimization import Adafactor
from transformers.trainer_pt_utils import LabelSmoother

from engine.worker.inner import body_of, inner_of
from engine.worker.token_loss import head_of, token_loss
from engine.worker.tracing import eight_bit, liger, older
from engine.worker.tracing.again import Again
from engine.worker.tracing.chunked_nll import NARROW, chunked_nll, tiled_nll
from engine.worker.tracing.four_bit import AT_ONCE, multiplying, quantise
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.live import Marks
from engine.worker.tracing.models import adapted, config_of, depth_of, fresh_modules, loaded, skeleton
from engine.worker.tracing.offloading import offloaded
from engine.worker.tracing.optimizers import BitsAndBytes, OtherStates, Several, embeddings_of
from engine.worker.tracing.trace import workspace
from recommender.errors import InputError, Refused
from recommender.step import TILED, TrainingStep, version_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WRITING = ("causal_lm", "masked_lm", "seq2seq")
"""Heads that tell words."""
STEPS = 2
"""The second is what counts: by then the optimizer has its states."""


class PlainLoop:
    """Model, optimizer and batch of a step whose every choice is known."""

    def __init__(
        self,
        config: dict[str, Any],
        step: TrainingStep,
        live: Marks,
        card: Card,
        *,
        layers: int | None,
        learned: float = 1.0,
        device: str = "meta",
    ) -> None:
        """Build it, telling `live` how far it is; `layers` replaces the configuration's depth; of the tokens the share `learned`
        carries loss, which only TRL's asks.

        Raises:
            Refused, InputError: the model cannot be built.
        """
        assert step.head is not None
        assert step.base_dtype is not None
        self._step, self._live, self._workspace = step, live, card.workspace
        self._device, self._head, self._learned = device, str(step.head), learned
        self._number = self._head == "classification" and step.labels == 1  # models take a score for a regression
        wants = step.labels or 2 if self._head in ("classification", "tagging") else None
        self.config = config_of(config, layers=layers, labels=wants)
        self.config.get_text_config().use_cache = bool(step.use_cache) and not step.checkpointed
        if self._head == "causal_lm" and step.target_length is not None:
            self._head = "seq2seq"
            if step.loss != "plain":
                raise Refused(f"cannot predict: the loss {step.loss} of an encoder-decoder outside of Loracle is not known.")
        dtype = DTYPES[step.base_dtype]
        make = skeleton if step.method == "qlora" else loaded
        self.model = make(self.config, self._head, dtype, "eager" if step.attention == "eager" else "sdpa", device)
        if (absent := absent_parts(self.model, step)) and len(absent) == len(step.trained or ()):
            raise InputError(f"step.trained: no parameter of the model has {' or '.join(absent)} in its name.")
        self._attention = older.attention(self.model) if step.older_attention else contextlib.nullcontext()
        fresh = fresh_modules(self.model, self._head)
        self._products: Any = contextlib.nullcontext()
        if step.method == "qlora":
            live.phase(f"load {'8' if step.quantization == 'int8' else '4'} bit")
            self._products = self._quantised(fresh, card)
        if step.adapters:
            live.phase("load adapters")
            self.model = adapted(self.model, step, self._head, live=live, device=device)
        else:
            if step.trained is not None:
                _train_only(self.model, step.trained)
            if step.checkpointed:
                self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.model, self.trained, step)
        self.depth, self.vocabulary = depth_of(self.config), int(self.config.get_text_config().vocab_size)
        self._kept: list[torch.Tensor | None] = []
        self._which: str | None = None
        self._mark_loss()
        self.batch = self._inputs(step.micro_batch_rows)
        moves = step.activation_offloading and device == "meta"
        self._offloading = offloaded(self.model) if moves else contextlib.nullcontext()
        self._kernels = liger.kernels_in(self.model, card.processors) if step.kernels == "liger" else contextlib.nullcontext()

    def _quantised(self, fresh: list[str], card: Card) -> Any:
        """Put maps in 4 or 8 bit in the place of the model's, and how they multiply."""
        step, device, dtype = self._step, self._device, DTYPES[str(self._step.base_dtype)]
        if step.quantization == "int8":
            if card.kind != "cuda":
                raise Refused("cannot predict: a base in 8 bit is known on NVIDIA's cards alone.")
            eight_bit.quantise(self.model, spare=fresh, device=device)
            return eight_bit.multiplying(keeps=not (step.checkpointed and step.reentrant))
        version = version_of(step.bitsandbytes or f"{AT_ONCE[0]}.{AT_ONCE[1]}")
        quantise(
            self.model,
            kind=step.quantization or "nf4",
            double=bool(step.double_quantization),
            dtype=dtype,
            spare=fresh,
            device=device,
            repacks=card.repacks and device == "meta",
            compute=DTYPES[str(step.compute_dtype or step.base_dtype)],
            version=version,
        )
        freed = step.checkpointed and step.use_reentrant is not False
        return multiplying(card, version, checkpointed=freed) if device == "meta" else contextlib.nullcontext()

    def _inputs(self, rows: int) -> dict[str, torch.Tensor]:
        length = self._step.length
        whole = (rows, length)
        labels = (rows,) if self._head == "classification" else whole
        if self._head == "seq2seq":
            labels = (rows, self._step.target_length or length)
        with torch.device(self._device):
            found = {"input_ids": torch.zeros(whole, dtype=torch.long), "attention_mask": torch.ones(whole, dtype=torch.long)}
            return found | {"labels": torch.zeros(labels, dtype=torch.float32 if self._number else torch.long)}

    def _autocast(self) -> Any:
        named = self._step.autocast
        return contextlib.nullcontext() if named in (None, "float32") else torch.autocast(self._device, DTYPES[str(named)])

    def run(self) -> None:
        """Take the steps and one evaluation; phases of the first are named so."""
        repeated = mock.patch.object(sdpa_attention, "use_gqa_in_sdpa", _never)  # a mock would keep what it is called with
        with self._kernels, self._attention, self._products, repeated if self._step.keys_repeated else contextlib.nullcontext():
            self._steps()

    def _steps(self) -> None:
        held: Any = None
        loss: Any = None  # holds what was made to require a gradient, and its gradient, when its graph is gone
        again = Again(self._live, self.trained)
        for turn in range(STEPS):
            which = "" if turn == STEPS - 1 else "first "
            for piece in range(0 if turn and again.write() else self._step.pieces):
                first = not turn and not piece
                if not self._step.outputs_rebound:
                    held = loss = None
                self._live.phase(f"{which}forward")
                if first:
                    self._kept.append(workspace(self._live, self._workspace, f"{which}forward"))
                self._which = which
                with self._offloading:
                    with self._autocast():
                        found, loss = self._forward()
                    self._which = None
                    if self._step.outputs_held:
                        held = found
                    del found
                    self._live.phase(f"{which}backward")
                    if first:
                        self._kept.append(workspace(self._live, self._workspace, f"{which}backward"))
                    torch.autograd.backward([loss])
            self._live.phase(f"{which}optimizer")
            again.passed()
            if self.optimizer is not None:
                self.optimizer.step()
            for p in self.trained:
                if self._step.set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad.zero_()
            if not self._step.outputs_rebound:
                held = loss = None
                again.let_go()
        del held, loss
        self._live.phase("evaluation")
        self.model.eval()
        self.config.get_text_config().use_cache = bool(self._step.use_cache)  # which recomputation has done without
        if self._step.evaluation_rows is not None:
            self.batch = self._inputs(self._step.evaluation_rows)
        with torch.no_grad(), self._autocast():
            self._forward()
        torch.empty(1, device=self._device)  # its results are gone by then
        self._live.phase("save")
        torch.empty(1, device=self._device)

    def _forward(self) -> tuple[Any, torch.Tensor]:
        """What the model gives out, and the loss."""
        loss, fused = self._step.loss, self._step.kernels == "liger"
        if self._step.label_smoothing and loss == "plain":
            return self._smoothed()
        if loss in ("sum", "as_is"):
            return self._of_logits()
        if loss == "plain" or self._head not in WRITING:
            found = self.model(**self.batch)
            return found, found.loss
        if loss == "fused" and not fused:
            return self._in_place()
        given = {name: self.batch[name] for name in ("input_ids", "attention_mask")}
        hidden = body_of(self.model)(**given).last_hidden_state
        self._loss_begins()  # these take the head's weight, and do not call it
        if fused and loss != "chunked_nll":
            return None, liger.fused_loss(hidden, inner_of(self.model).get_output_embeddings().weight)
        if loss == "chunked_nll":
            version = version_of(self._step.trl) if self._step.trl else NARROW
            if version >= TILED:
                return None, tiled_nll(hidden, head_of(self.model), self.batch["labels"], learned=self._learned)
            wide = version < NARROW
            return None, chunked_nll(hidden, head_of(self.model), self.batch["labels"], learned=self._learned, wide=wide)
        labels = self.batch["labels"].reshape(-1)
        return None, token_loss(hidden.reshape(-1, hidden.shape[-1]), head_of(self.model), labels)

    def _of_logits(self) -> tuple[Any, torch.Tensor]:
        """What a loop of one's own makes of the logits, in the type they have."""
        found = self.model(**{name: values for name, values in self.batch.items() if name != "labels"})
        if self._step.loss == "sum":
            return found, found.logits.sum()
        labels, last = self.batch["labels"], -1 if self._head == "causal_lm" else None
        logits = found.logits[..., :last, :] if labels.dim() > 1 else found.logits
        told = labels[..., 1:] if self._head == "causal_lm" else labels
        return found, torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), told.reshape(-1))

    def _smoothed(self) -> tuple[Any, torch.Tensor]:
        """As transformers' Trainer does: the model is given no labels, and the loss is made of its logits."""
        given = {name: values for name, values in self.batch.items() if name != "labels"}
        if self._head == "seq2seq":
            given["decoder_input_ids"] = self.batch["labels"]
        found = self.model(**given)
        shifted = self._head == "causal_lm"
        return found, LabelSmoother(self._step.label_smoothing)(found, self.batch["labels"], shift_labels=shifted)

    def _in_place(self) -> tuple[Any, torch.Tensor]:
        """A fused cross-entropy of logits that are there, as steps with one were measured: transformers 4.45 made them fp32 in
        the model, and copied all but the last token's for the loss (modeling_llama.py, `LlamaForCausalLM.forward`)."""
        found = self.model(**{name: values for name, values in self.batch.items() if name != "labels"})
        found.logits = found.logits.float()
        logits = found.logits[..., :-1, :].contiguous() if self._head == "causal_lm" else found.logits
        return found, liger.in_place_loss(logits.view(-1, logits.shape[-1]))

    def _mark_loss(self) -> None:
        """The head's first operation begins the phase of the loss; a layer that is computed again does not."""
        head = self.model.get_output_embeddings() if self._head in WRITING else None
        if head is None:
            names = fresh_modules(inner_of(self.model), self._head)
            head = inner_of(self.model).get_submodule(names[-1]) if names else None
        if head is not None:
            head.register_forward_pre_hook(lambda *_: self._loss_begins())

    def _loss_begins(self) -> None:
        if self._which is not None:
            self._live.phase(f"{self._which}loss")
            self._which = None


def _never(*_: Any) -> bool:
    return False


def absent_parts(model: Any, step: TrainingStep) -> list[str]:
    """Of the parts that are to be trained whole, those that the model does not have: peft passes them over (`_set_trainable`)."""
    modules = [name for name, _ in model.named_modules()]
    parameters = [f".{name}." for name, _ in model.named_parameters()]

    def there(part: str) -> bool:
        return any(name.endswith(part) for name in modules) if step.adapters else any(part in name for name in parameters)

    return [part for part in step.trained or () if not there(part)]


def _train_only(model: Any, parts: list[str]) -> None:
    """Parameters with one of these parts in their name; whole components of it where any has them, so that `layers.1` is not
    `layers.10` as well."""
    names = [f".{name}." for name, _ in model.named_parameters()]
    wanted = [f".{part.strip('.')}." for part in parts]
    for i, part in enumerate(wanted):
        if not any(part in name for name in names):
            wanted[i] = parts[i]
    for name, p in model.named_parameters():
        p.requires_grad_(any(part in f".{name}." for part in wanted))


def _optimizer(model: Any, parameters: list[torch.nn.Parameter], step: TrainingStep) -> Any:
    named, way = step.optimizer, step.optimizer_implementation
    if named == "none" or not parameters:
        return None
    if named == "sgd":  # fused has no kernel on the meta device, and takes what one weight after the other does
        return torch.optim.SGD(parameters, lr=1e-3, momentum=step.momentum, foreach=way == "foreach")
    if named == "adafactor":  # as transformers' Trainer makes it
        return Adafactor(parameters, lr=1e-3, scale_parameter=False, relative_step=False)
    lion = "lion" in named
    if lion or "8bit" in named or "paged" in named or (named == "adamw" and way == "bitsandbytes"):
        wide, bits = embeddings_of(model) if step.embeddings_in_fp32 else None, 8 if "8bit" in named else 32
        return BitsAndBytes(parameters, bits=bits, paged="paged" in named, moments=1 if lion else 2, wide=wide)
    wanted = DTYPES.get("bfloat16" if named == "adamw_bf16" else str(step.optimizer_state_dtype))
    other = [p for p in parameters if wanted is not None and p.dtype != wanted]
    usual = [p for p in parameters if wanted is None or p.dtype == wanted]
    made = [torch.optim.AdamW(usual, lr=1e-3, foreach=way == "foreach", fused=way == "fused")] if usual else []
    if not other:
        return made[0]
    assert wanted is not None
    return Several([*made, OtherStates(other, wanted)])
