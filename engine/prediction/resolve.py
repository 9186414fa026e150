"""From a step with open questions to steps without: what is not known takes its usual value, and the other one is tried too."""

from dataclasses import dataclass, field
from typing import Any

from engine.prediction import library
from engine.prediction.cards import known_of
from engine.prediction.contradictory import check
from engine.prediction.experts import ALWAYS_FUSED
from engine.prediction.heads import head_of, told_head
from recommender.facts import Facts
from recommender.step import PEFTS_OWN, TRLS_WIDE, TrainingStep, version_of

OWN_WORDS = ("outputs_rebound", "embeddings_in_fp32", "use_cache", "keys_repeated", "older_attention", "bitsandbytes")
"""Choices that nobody's facts name: both values are traced, and no answer lists them as assumed."""
SHORT = 8
"""What is written may be as long as what is read, or so many times shorter."""


@dataclass(slots=True)
class Resolved:
    """A step whose every choice is known, and what it could be as well."""

    step: TrainingStep
    others: dict[str, TrainingStep] = field(default_factory=dict)
    """By the choice that is not known: the same step with its other value."""
    assumed: list[str] = field(default_factory=list)


def resolved(facts: Facts) -> Resolved:
    """The step of the facts, completed.

    Raises:
        InputError: it contradicts itself or the model.
    """
    step = facts.step
    assert step is not None
    check(step, facts)
    choices = _Open(step)
    _take_head(facts, choices)
    choices.take("padded", False, True)
    _take_weights(facts, choices)
    choices.take("gradient_checkpointing", "none", "layer")
    _take_attention(choices, facts)
    _take_optimizer(facts, choices)
    _take_loss(choices)
    _take_target_length(facts, choices)
    if step.adapters:
        _take_adapters(choices)
    if step.method == "qlora":
        _take_experts(facts, choices)
    if step.devices > 1:
        choices.take("sharding", "ddp")
    whole = step.model_copy(update=choices.found)
    others = {name: whole.model_copy(update=changes) for name, changes in choices.others.items()}
    return Resolved(whole, others, choices.assumed)


class _Open:
    """A step's choices that are not known, as they are taken."""

    def __init__(self, step: TrainingStep) -> None:
        self.step = step
        self.found: dict[str, Any] = {}
        """The usual value of each."""
        self.others: dict[str, dict[str, Any]] = {}
        """What is changed to try the other value, where there is one."""
        self.assumed: list[str] = []

    def take(self, name: str, value: Any, instead: Any = None) -> None:
        """That value, unless the step says one; it might as well be the one `instead`."""
        if getattr(self.step, name) is None and name not in self.found:
            self.found[name] = value
            if name not in OWN_WORDS:
                self.assumed.append(name)
            if instead is not None:
                self.others[name] = {name: instead}


def _take_head(facts: Facts, choices: _Open) -> None:
    if choices.step.head is None:
        choices.found["head"] = head_of(facts)
        if told_head(facts) is None:
            choices.assumed.append("head")


def _take_weights(facts: Facts, choices: _Open) -> None:
    """The weights' type: a frozen base is read as it is stored; what is trained may be too, or in fp32."""
    step, declared = choices.step, facts.model.dtype
    stored = declared if declared in ("float32", "bfloat16", "float16") else None
    if step.adapters:
        named = step.trl is not None and (step.method == "lora" or version_of(step.trl) >= TRLS_WIDE)
        wide = named or (step.method == "lora" and stored is None)
        choices.take("base_dtype", stored or "bfloat16", "float32" if wide else None)
    else:
        certain = stored == "float32" or (step.autocast is not None and step.trl is None)  # which has it over any weights
        choices.take("base_dtype", "float32", None if certain else stored or "bfloat16")


GROUPED = (4, 54)
"""The first version of transformers that gives torch's attention grouped keys and values as they are (sdpa_attention.py,
`use_gqa_in_sdpa`)."""
OLDER = {"opt", "gpt_neox", "gpt2"}
"""Types of models whose attention kept more (`older.py`) before the version of transformers that follows."""
TODAYS = (4, 48)
SDPA = (4, 36)
"""The first version of transformers that gives torch's attention anything by itself."""
SDPA_SINCE = {
    "mistral": (4, 37), "mixtral": (4, 37), "phi": (4, 39), "stablelm": (4, 39), "bert": (4, 41), "gpt2": (4, 42),
    "gpt_neox": (4, 42), "roberta": (4, 45), "xlm-roberta": (4, 45), "xlm-roberta-xl": (4, 45), "camembert": (4, 45),
    "albert": (4, 45), "biogpt": (4, 45), "phi3": (4, 45), "mbart": (4, 45), "m2m_100": (4, 45), "distilbert": (4, 46),
    "opt": (4, 46), "pegasus": (4, 53), "marian": (4, 53), "blenderbot": (4, 53), "blenderbot-small": (4, 53),
    "plbart": (4, 53), "persimmon": (4, 53), "esm": (4, 56), "electra": (5, 0), "ernie": (5, 0), "mobilebert": (5, 0),
    "xmod": (5, 0), "bert-generation": (5, 0), "t5": (5, 14), "mt5": (5, 14), "umt5": (5, 14), "ctrl": (5, 14),
}  # fmt: skip
"""The same for types of models that it was taught later: the first version whose file of the model has `_supports_sdpa = True`,
of all from 4.36 to 5.15. Before that they write all scores out (eager), unless another attention is asked for."""


def _take_attention(choices: _Open, facts: Facts) -> None:
    step = choices.step
    since = SDPA_SINCE.get(str((facts.model.config or {}).get("model_type")), SDPA)
    if written_out := step.attention is None and step.transformers is not None and version_of(step.transformers) < since:
        choices.found["attention"] = "eager"
    elif step.attention in (None, "efficient", "math"):  # FlashAttention 2 has known groups for longer
        if step.transformers is not None:
            choices.take("keys_repeated", version_of(step.transformers) < GROUPED)
        elif not step.padded and _has_groups(facts.model.config or {}):
            choices.take("keys_repeated", False, True)
        if step.padded and _grows_without_mask(step, facts):
            choices.others["padded"] = {"padded": False}
    if (facts.model.config or {}).get("model_type") in OLDER:
        told, own = step.transformers, step.loss == "chunked"  # which is the engine's loss, beside what is installed
        choices.take("older_attention", told is not None and version_of(told) < TODAYS, None if told or own else True)
    elif step.older_attention:
        choices.found["older_attention"] = False
    if step.attention is None and not written_out:
        choices.assumed.append("attention")  # torch chooses
        if step.transformers is None and since > TODAYS and step.loss != "chunked":  # which is the engine's loss
            choices.others["attention"] = {"attention": "eager"}
    elif step.attention == "flash" and (step.padded or _narrows(step)):  # FlashAttention 2; or the word for torch's choice
        choices.others["attention"] = {"attention": None}


def _grows_without_mask(step: TrainingStep, facts: Facts) -> bool:
    """Whether a batch of the same run without any padding keeps more. It has no mask (masking_utils.py,
    `_ignore_causal_mask_sdpa`), so that grouped keys and values stay as they are, which only flash attention takes; and that is
    for 16 bit and cards since Ampere. Else all scores are written out (math)."""
    if step.loss == "chunked" or step.attention == "math" or facts.machine.backend != "cuda":
        return False
    if step.transformers is not None and version_of(step.transformers) < GROUPED:
        return False
    narrow = (step.autocast not in (None, "float32") or step.base_dtype in ("bfloat16", "float16")) and not _narrows(step)
    flash = narrow and known_of(facts.machine)[0].capability >= (8, 0)
    return _has_groups(facts.model.config or {}) and not flash


def _has_groups(config: dict[str, Any]) -> bool:
    """Whether several query heads share a key and a value."""
    text = config.get("text_config")
    of = text if isinstance(text, dict) else config
    return of.get("num_key_value_heads") not in (None, of.get("num_attention_heads"))


def _take_optimizer(facts: Facts, choices: _Open) -> None:
    """What an optimizer is like that is only named."""
    step = choices.step
    in_8_bit = "8bit" in step.optimizer
    if in_8_bit and step.optimizer_state_dtype == "float32":  # said of every optimizer; small moments are
        choices.found["optimizer_state_dtype"] = None
        choices.assumed.append("optimizer_state_dtype")
    if step.optimizer in ("adamw", "adamw_bf16", "sgd"):
        here = facts.machine.device is None and facts.machine.backend == "cpu"
        usually = ("fused", "foreach") if step.loss == "chunked" else ("single" if here else "foreach", "fused")
        choices.take("optimizer_implementation", *usually)
    elif in_8_bit:
        choices.take("embeddings_in_fp32", False, True)


def _take_loss(choices: _Open) -> None:
    """What lives beside a loss, or runs with it."""
    step = choices.step
    if step.loss == "chunked_nll":
        choices.take("trl", "1.14", "1.12")  # up to which its product was in fp32 (`chunked_nll.NARROW`)
    if step.loss == "fused":  # of logits that are there, or Liger's of the head and them, which `use_liger_kernel` puts in
        choices.take("kernels", "usual", "liger")
    if step.loss in ("plain", "as_is", "sum") or (step.loss == "fused" and step.kernels != "liger"):
        choices.take("outputs_held", True, False)
        if step.outputs_held is not False:
            choices.take("outputs_rebound", False, True)
        _take_cache(choices)


def _take_cache(choices: _Open) -> None:
    """Whether outputs that are held bring the keys and values of all tokens along, as a decoder's do by themselves. Recomputation
    has none; rows that are scored have, and of them somebody tells how many."""
    step = choices.step
    held = step.outputs_held is not False and not step.checkpointed
    if step.use_cache is not None or (step.head or choices.found.get("head")) != "causal_lm":
        return
    if not held and step.evaluation_rows is None:
        return
    if held and "outputs_rebound" in choices.others:  # where they add most
        choices.others["outputs_rebound"]["use_cache"] = True
    else:
        choices.take("use_cache", False, True)


def _take_target_length(facts: Facts, choices: _Open) -> None:
    """How much a model writes that reads one text and writes another."""
    step = choices.step
    if (step.head or choices.found["head"]) != "causal_lm" or not library.writes_from_texts(facts.model.config or {}):
        return
    known, learned = facts.data.tokens_total, facts.data.trained_tokens
    if known and learned:
        choices.found["target_length"] = step.target_length or max(round(min(learned / known, 1.0) * step.length), 1)
    choices.take("target_length", step.length, max(step.length // SHORT, 1))


FUSED = (5, 0)
"""The first version of transformers that makes the experts of a layer one weight, in all models (its migration guide)."""


def _take_experts(facts: Facts, choices: _Open) -> None:
    """Whether 4-bit maps replace experts, where the version tells it. Of fused ones peft takes no dropout: a step that
    had one was another."""
    told = choices.step.transformers
    if told is None or choices.step.fused_experts is not None:
        return
    fused = version_of(told) >= FUSED
    if not choices.step.lora_dropout if fused else (facts.model.config or {}).get("model_type") not in ALWAYS_FUSED:
        choices.found["fused_experts"] = fused


def _take_adapters(choices: _Open) -> None:
    """What adapters and their base are like."""
    choices.take("rank", 16)
    choices.take("adapter_dtype", "float32", "bfloat16")
    choices.take("lora_dropout", 0.0, 0.05)
    choices.take("target_modules", "all-linear", PEFTS_OWN)
    if choices.step.method == "qlora":
        choices.take("quantization", "nf4")
        if choices.step.quantization == "int8" and choices.step.checkpointed and not choices.step.reentrant:
            choices.take("use_reentrant", False, True)  # by hooks its maps keep what they are given (`eight_bit.py`)
        elif choices.step.quantization != "int8":
            choices.take("double_quantization", True, False)
        prepared = choices.step.loss != "chunked"  # which is the engine's loss, and the engine does not
        choices.take("kbit_prepared", prepared, not prepared)
        if choices.step.quantization != "int8":
            _take_computed(choices)


FOUR_BITS = (((4, 43), "0.43"), ((4, 55), "0.46"))
"""The last bitsandbytes before such a version of transformers, by what its 4-bit maps keep and compute in: 0.43.2 and 0.47 came
out with these two."""


def _take_computed(choices: _Open) -> None:
    """What 4-bit maps compute in: as a rule what their base is read in, but fp32 where a script says nothing. That, in an older
    version of bitsandbytes, takes most."""
    step, own = choices.step, choices.step.loss == "chunked"  # which is the engine's loss, and the engine tells them
    told = step.transformers
    older = next((last for until, last in FOUR_BITS if told is not None and version_of(told) < until and not own), None)
    choices.take("bitsandbytes", older or "0.50")
    held = step.base_dtype or choices.found["base_dtype"]
    choices.take("compute_dtype", held, None if own or held == "float32" else "float32")
    if "compute_dtype" in choices.others and told is None and step.bitsandbytes is None:
        choices.others["compute_dtype"]["bitsandbytes"] = "0.46"


def _narrows(step: TrainingStep) -> bool:
    """Whether attention gets fp32 from a model of 16 bit: the stream that k-bit preparation makes."""
    return bool(step.kbit_prepared) and step.autocast is None and step.base_dtype in ("bfloat16", "float16")
