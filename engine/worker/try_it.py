"""The child of "try it": `python -P -m engine.worker.try_it RUN`; a JSON text a line in, answers of both models a line out.

First comes `{"ready": true, "system": ..., "tools": [...]}` with the system message and the names of the tools that texts are
asked with, or `{"error": ...}` and the end. To `{"id": 1, "text": "..."}` it answers `{"id": 1, "base": ..., "tuned": ...,
"seconds": ...}`, an answer being `{"text": ..., "shares": [[label, share], ...]}`; a model that writes tells what it has so
far as `{"id": 1, "side": "tuned", "partial": ...}`. It ends with its input.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from engine.files import json_object
from engine.inspection.model import inspect_folder
from engine.processes import answers
from engine.rundir import RunDirectory
from engine.worker import export
from engine.worker.accelerator import take_hold
from engine.worker.budget import is_out_of_memory
from engine.worker.encoding import parts_pairs
from engine.worker.generating import tastes_off
from engine.worker.inner import inner_of
from engine.worker.modeling import load_config, model_folder, tells_texts_apart
from engine.worker.precision import autocast
from engine.worker.tasks.answers import name_of
from engine.worker.tasks.conversation import ends_of, prompt_of, rendered
from engine.worker.tasks.multi_label import THRESHOLD
from engine.worker.tasks.tags import places
from engine.worker.trainer import seed_everything
from recommender.errors import LoracleError

MOST_SHARES = 3
NEW_TOKENS = 200
TELL_SECONDS = 0.2
BETWEEN = "|||"
"""Parts the two texts of a pair, for models that were trained on pairs."""
Say = Callable[[dict[str, Any]], None]


class Trial:
    """The untouched model and the result, ready to be asked. With adapters they share the base, which is held once."""

    def __init__(self, run: RunDirectory) -> None:
        """Load both.

        Raises:
            LoracleError: the base is gone.
        """
        self.plan = run.plan()
        folder = model_folder(self.plan.model)
        family = inspect_folder(folder, self.plan.model.id)["facts"]["family"]
        self.tokenizer, self.task = export.tokenizer_and_task(run, family)
        seed_everything(self.plan.seed)  # below an adapter a new head starts as it did in the run
        self.tuned = export.load(run, self.task, folder).eval()
        self._base = self._load_base(folder) if self.plan.method == "full" else None
        kept = json_object(run.model / "loracle.json") or {}
        self.system, self.tools = str(kept.get("system") or ""), kept.get("tools") or None
        """What most training rows are asked with: the scores are those of answers behind it."""

    def _load_base(self, folder: str) -> Any:
        seed_everything(self.plan.seed)
        config = load_config(folder, self.task)
        options = {"config": config, "dtype": torch.float32, "ignore_mismatched_sizes": self.task.fresh_head}
        model = self.task.model_class().from_pretrained(folder, use_safetensors=True, **options)
        return model.to(self.tuned.device).eval()

    @contextlib.contextmanager
    def base(self) -> Iterator[Any]:
        """The untouched model."""
        if self._base is not None:
            yield self._base
            return
        with self.tuned.disable_adapter():
            yield self.tuned

    def answer(self, text: str, tell: Callable[[str, str], None]) -> dict[str, Any]:
        """What both say to `text`; `tell(side, words so far)` while they write."""
        with torch.inference_mode(), autocast(self.tuned.device, self.plan.precision):
            tuned = self._ask(self.tuned, text, lambda words: tell("tuned", words))
            with self.base() as model:
                base = self._ask(model, text, lambda words: tell("base", words))
        return {"base": base, "tuned": tuned}

    def _ask(self, model: Any, text: str, tell: Callable[[str], None]) -> dict[str, Any]:
        match self.plan.task:
            case "classification" | "multi_label" | "regression":
                return self._row(model, text)
            case "token_classification":
                return self._tags(model, text)
            case _:
                return {"text": self._write(model, text, tell), "shares": []}

    def _row(self, model: Any, text: str) -> dict[str, Any]:
        texts = [part.strip() for part in text.split(BETWEEN, 1)]
        if not parts_pairs(self.tokenizer):
            texts = ["\n".join(texts)]
        types = len(texts) == 2 and tells_texts_apart(self.tuned.config)
        inputs = self.tokenizer(
            *texts, truncation=True, max_length=self.plan.max_length, return_token_type_ids=types, return_tensors="pt"
        )
        logits = model(**inputs.to(model.device)).logits.float()[0]
        if self.plan.task == "regression":
            config = self.tuned.config
            value = float(logits[0]) * float(getattr(config, "target_sd", 1.0)) + float(getattr(config, "target_mean", 0.0))
            return {"text": f"{value:.4g}", "shares": []}
        several = self.plan.task == "multi_label"
        shares = (logits.sigmoid() if several else logits.softmax(-1)).tolist()
        ranked = sorted(zip(self.task.labels, shares, strict=False), key=lambda pair: -pair[1])
        given = [label for label, share in ranked if share > THRESHOLD] if several else [ranked[0][0]]
        return {"text": ", ".join(given), "shares": [[label, share] for label, share in ranked[:MOST_SHARES]]}

    def _tags(self, model: Any, text: str) -> dict[str, Any]:
        words = text.split()
        inputs = self.tokenizer(
            words, is_split_into_words=True, truncation=True, max_length=self.plan.max_length, return_tensors="pt"
        )
        best = model(**inputs.to(model.device)).logits[0].argmax(-1).tolist()
        tags = {word: self.task.labels[best[place]] for word, place in places(inputs.word_ids(0), self.task.family).items()}
        said = [f"{w}/{tags[i]}" if tags.get(i, "O") != "O" else w for i, w in enumerate(words)]
        return {"text": " ".join(said) if said != words else "", "shares": []}  # where it tags nothing that is said

    def _write(self, model: Any, text: str, tell: Callable[[str], None]) -> str:
        """Greedy, up to the end of an answer."""
        ids, ends = self._prompt(text)
        positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or len(ids) + NEW_TOKENS
        ids = ids[-max(positions - NEW_TOKENS, 1) :]
        inputs = torch.tensor([ids], device=model.device)
        reads = bool(model.config.is_encoder_decoder)
        greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "max_length": None}
        found = model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=NEW_TOKENS,
            pad_token_id=self.task.pad,
            eos_token_id=ends or None,
            use_cache=True,
            streamer=_Told(self.tokenizer, tell, skips_prompt=not reads),
            **tastes_off(inner_of(model).generation_config) | greedy,
        )
        begin = 0 if reads else len(ids)
        return str(self.tokenizer.decode(found[0][begin:], skip_special_tokens=True)).strip()

    def _prompt(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids to go on from, and the ids that end an answer."""
        end = self.tokenizer.eos_token_id
        ends = [] if end is None else [int(end)]
        if self.plan.task == "continued_pretraining" or self.tuned.config.is_encoder_decoder:
            ids = self.tokenizer(text, truncation=True, max_length=self.plan.max_length)["input_ids"]
            whole = self.tuned.config.is_encoder_decoder or ids[-1:] != [end]
            return (ids if whole else ids[:-1]), ends
        turns = (("system", self.system), ("user", text), ("assistant", "."))
        item = {"messages": [{"role": role, "content": said} for role, said in turns if said], "tools": self.tools}
        closing = ends_of(self.tokenizer, rendered(self.tokenizer, item, "the text").labels)
        return prompt_of(self.tokenizer, item, "the text")[1], list(dict.fromkeys([*ends, *sorted(closing)]))


class _Told:
    """A streamer of transformers that tells the words so far, a few times a second."""

    def __init__(self, tokenizer: Any, tell: Callable[[str], None], *, skips_prompt: bool) -> None:
        self._tokenizer, self._tell = tokenizer, tell
        self._skip, self._ids, self._last = skips_prompt, list[int](), 0.0

    def put(self, value: torch.Tensor) -> None:
        """Tokens that came; at first the prompt."""
        if self._skip:
            self._skip = False
            return
        self._ids += value.reshape(-1).tolist()
        now = time.monotonic()
        if now - self._last >= TELL_SECONDS:
            self._last = now
            self._tell(str(self._tokenizer.decode(self._ids, skip_special_tokens=True)).strip())

    def end(self) -> None:
        """Nothing more comes."""


def serve(run: RunDirectory, questions: Iterator[str], say: Say) -> None:
    """Load, then answer until the questions end."""
    try:
        take_hold()
        trial = Trial(run)
    except LoracleError as error:
        say({"error": error.message})
        return
    except Exception as error:  # a library met something strange in a folder: one sentence, never a traceback
        short = "There is not enough free memory to load the models; close other programs."
        why = f"The models cannot be loaded ({type(error).__name__}: {error})."
        say({"error": short if is_out_of_memory(error) else why})
        return
    say({"ready": True, "system": trial.system, "tools": [name_of(tool) for tool in trial.tools or ()]})
    for line in questions:
        asked = json.loads(line)
        number, began = asked["id"], time.monotonic()

        def tell(side: str, words: str, number: int = number) -> None:
            say({"id": number, "side": side, "partial": words})

        try:
            found = trial.answer(asked["text"], tell)
        except Exception as error:  # the next text may do
            say({"id": number, "error": f"{type(error).__name__}: {error}"})
            continue
        say({"id": number, **found, "seconds": time.monotonic() - began})


def main() -> None:
    """Answer on the real standard output; libraries that print get standard error."""
    out = answers()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    def say(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=out, flush=True)

    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # nobody listens any more
        serve(RunDirectory(Path(sys.argv[1])), iter(sys.stdin), say)


if __name__ == "__main__":
    main()
