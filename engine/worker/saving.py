"""A Trainer whose checkpoints are whole or not there, and begin anew where memory had come to.

Overridden are hooks of transformers' Trainer by its own names: what it does by itself (in place, unflushed, unmarked) cannot be
resumed from safely (`engine.checkpoints`).
"""

import json
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_callback import ExportableState

from engine import checkpoints
from engine.events import EventWriter
from engine.worker.adapters import narrow
from engine.worker.budget import TokenBudget, give_back, out_of_memory
from engine.worker.recomputing import is_recomputing
from engine.worker.tasks.base import Task
from recommender.errors import InputError, TrainingFailed
from recommender.footprint import BESIDE_CHECKPOINT


class SavingTrainer(Trainer):  # type: ignore[misc]  # mypy does not read transformers here
    """Saving and resuming of `LogicalBatchTrainer`."""

    _task: Task
    _budget: TokenBudget
    _events: EventWriter
    _note: dict[str, Any]
    """Stored with every checkpoint."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write `step-N` and seal it; earlier checkpoints go only afterwards.

        Raises:
            TrainingFailed: it cannot be written: the disk is full or gone, or memory has no room for it.
        """
        started = time.monotonic()
        root = Path(self.args.output_dir)
        folder = checkpoints.folder_of(root, self.state.global_step)
        root.mkdir(mode=0o700, exist_ok=True)  # who needed room may have removed all that were there
        checkpoints.check_space(root, self.expected_bytes())
        best = self.state.best_global_step
        written = self._written(folder)
        checkpoints.rotate(root, best)
        self._events.write(
            "checkpoint",
            step=self.state.global_step,
            path=str(folder),
            bytes=written,
            seconds=time.monotonic() - started,
            best=best == self.state.global_step,
        )

    def _written(self, folder: Path) -> int:
        """Write everything that resuming needs, sealed, or nothing; its bytes."""
        step = self.state.global_step
        short: BaseException | None = None
        while True:
            try:
                with checkpoints.being_written(folder, f"the checkpoint of step {step}"):
                    return self._write(folder)
            except Exception as error:
                if short is not None:
                    raise TrainingFailed(
                        f"Memory ran out while the checkpoint of step {step} was written; what was saved before is intact."
                    ) from out_of_memory(error)
                short = out_of_memory(error)
            give_back()  # what allocators keep of freed memory may be all it takes

    def _write(self, folder: Path) -> int:
        # A mixture's experts are one weight in the model and many in a published file: read back under those names, which the
        # model does not know, they would be passed over in silence.
        as_held = {} if hasattr(self.model, "peft_config") else {"save_original_format": False}
        self.model.save_pretrained(folder, **as_held)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))  # no random states: each step begins with its own
        for callback in (c for c in self.callback_handler.callbacks if isinstance(c, ExportableState)):
            self.state.stateful_callbacks[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))
        (folder / "loracle.json").write_text(json.dumps(self._note | self._memory_note()))
        return checkpoints.seal(folder)

    def _memory_note(self) -> dict[str, Any]:
        """What a run has come to for lack of memory: a resumed one begins there."""
        return {"token_budget": self._budget.tokens, "gradient_checkpointing": is_recomputing(self.model)}

    def saved_bytes(self) -> int:
        """Of weights that are saved: all, or the adapters and what is trained beside them."""
        adapters = hasattr(self.model, "peft_config")
        saved: int = sum(p.nbytes for p in self.model.parameters() if p.requires_grad or not adapters)
        return saved

    def expected_bytes(self) -> int:
        """Of a checkpoint: what is saved of the model, and two optimizer moments for each weight that is trained."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        moments = 2 * sum(p.nbytes for p in trained)
        if self._task.plan.optimizer != "adamw":
            # Of embeddings transformers asks bitsandbytes for moments in fp32.
            wide = {id(m.weight) for m in self.model.modules() if isinstance(m, torch.nn.Embedding)}
            moments = sum((8 if id(p) in wide else 2) * p.numel() for p in trained)
        expected: int = self.saved_bytes() + moments + BESIDE_CHECKPOINT
        return expected

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        inner: Any = getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate wraps it
        if not getattr(inner, "is_paged", False):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        # bitsandbytes would load paged moments onto the GPU, where they then stay: 2 bytes for each weight that is trained.
        usual = inner.load_state_dict
        inner.load_state_dict = lambda state: usual(state, move_to_device=False)
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        finally:
            del inner.load_state_dict
        for p, state in inner.state.items():
            for name in ("state1", "state2"):
                held = inner.get_state_buffer(p, dtype=state[name].dtype)
                held.copy_(state[name])
                state[name] = held

    def _load_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(*args, **kwargs)
        if self._task.plan.adapter_dtype == "bf16":
            narrow(self.model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """
        Raises:
            InputError: the checkpoint has no value for a weight of the model.
        """
        named = dict(self.model.named_parameters(remove_duplicate=False))
        missing = {*load_result.missing_keys} - {*(self.model._keys_to_ignore_on_save or ())}  # Marian's positions never change
        there = {id(p) for name, p in named.items() if name not in missing}  # what is tied is stored once
        lacking = [name for name in missing & named.keys() if id(named[name]) not in there]
        if lacking:
            raise InputError(f"The checkpoint has no weights for {min(lacking)}; start the run again.")

    def load_weights(self, checkpoint: Path) -> None:
        """Put a checkpoint's weights into the model.

        Raises:
            InputError: it lacks some.
        """
        self._load_from_checkpoint(str(checkpoint))
