"""One training step, fixed in every choice that decides its memory and its time: `step` of the facts."""

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from recommender.base import Given

Dtype = Literal["float32", "bfloat16", "float16"]
_DTYPES: dict[Any, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}
WORDS: dict[str, dict[Any, Any]] = {
    "method": {},
    "head": {
        "sequence_classification": "classification", "multi_label": "classification", "regression": "classification",
        "token_classification": "tagging", "mlm": "masked_lm", "seq2seq": "causal_lm",
    },
    "quantization": {
        "4bit": "nf4", "4-bit": "nf4", "8bit": "int8", "8-bit": "int8", "load_in_4bit": "nf4", "load_in_8bit": "int8",
        "llm_int8": "int8", "llm.int8": "int8",
    },
    "attention": {
        "sdpa": None, "flash_attention": "flash", "flash_attention_2": "flash", "flash_attention_3": "flash",
        "xformers": "efficient", "mem_efficient": "efficient",
    },
    "loss": {
        "cross_entropy": "plain", "nll": "plain", "cut_cross_entropy": "chunked", "cce": "chunked", "liger": "fused",
    },
    "kernels": {},
    "base_dtype": _DTYPES,
    "compute_dtype": _DTYPES,
    "autocast": _DTYPES | {"bf16-mixed": "bfloat16", "fp16-mixed": "float16", "no": None, "none": None, False: None},
    "adapter_dtype": _DTYPES,
    "optimizer_state_dtype": _DTYPES,
    "optimizer": {
        "adam": "adamw", "adamw_hf": "adamw", "adamw_torch": "adamw", "adamw_torch_fused": "adamw",
        "adamw_bnb_8bit": "adamw_8bit", "paged_adamw_32bit": "paged_adamw", "lion_32bit": "lion",
        "paged_lion_32bit": "paged_lion",
    },
    "optimizer_implementation": {},
    "gradient_checkpointing": {"full": "layer", "true": "layer", "false": "none"},
    "sharding": {
        "no": "none", "zero_1": "zero1", "zero_2": "zero2", "zero_3": "zero3", "fsdp2": "fsdp", "full_shard": "fsdp",
        "shard_grad_op": "zero2",
    },
}  # fmt: skip
"""What other programs' arguments (transformers, accelerate, TRL) call the values of these fields: the words used here. Words are
taken in small letters, with `_` for `-` where no such word is known. `sdpa` leaves the kernel to torch, as nothing does."""
BESIDE: dict[tuple[str, str], tuple[str, str]] = {
    ("optimizer", "adamw_torch_fused"): ("optimizer_implementation", "fused"),
    ("optimizer", "adamw_hf"): ("optimizer_implementation", "single"),
    ("loss", "liger"): ("kernels", "liger"),
}
"""What such a word says of another field as well, where that says nothing itself."""
PEFTS_OWN = "default"
"""Target modules that peft takes for a kind of model where it is told none: mostly some maps of attention."""
TRLS: tuple[tuple[tuple[int, int], dict[str, Any], bool], ...] = (
    ((0, 0), {"outputs_held": False}, False),
    ((0, 19), {"autocast": "bfloat16"}, False),
    ((0, 22), {"gradient_checkpointing": "layer"}, False),
    ((0, 26), {"kbit_prepared": False, "adapter_dtype": "bfloat16"}, True),
    ((0, 27), {"use_reentrant": False}, False),
    ((1, 7), {"loss": "chunked_nll"}, False),
)
"""What TRL's SFTTrainer does where a script says nothing, by the first version that does so (trl/trainer/sft_config.py and
sft_trainer.py); the fourth line of 4-bit bases alone."""
TRLS_WIDE = (0, 27)
"""The first version that reads a model in fp32 that is only named, whatever it is stored in (trl/trainer/utils.py,
`create_model_from_path`): of one in 4 bit all that is not."""
HOOKED = {"transformers": (5, 0), "torch": (2, 4)}
"""The first transformers that checkpoints by hooks where nobody says how, and a torch that it does not run without."""
TILED = (1, 15)
"""The first version of TRL in which all losses of the next token go through the head by tiles, so that none is plain."""
Rows = Annotated[int, Field(ge=1, le=1_000_000)]


class TrainingStep(Given):
    """A step as it is run somewhere. `None` means not known: both values are then traced, or a usual one is assumed.

    Fields that are not understood are kept, so that an answer can name them: what they would change is not in it.
    """

    model_config = ConfigDict(extra="allow")

    method: Literal["full", "lora", "qlora"]
    micro_batch_rows: Rows = 1
    evaluation_rows: Rows | None = None
    """Rows that are scored at a time; as many as are trained where nothing is said."""
    length: Annotated[int, Field(ge=1, le=10_000_000)] = 512
    padded: bool | None = None
    """Whether the rows are of unequal lengths, so that attention needs a mask."""
    dynamic_padding: bool | None = None
    """Whether each micro-batch is only as long as its longest row, so that micro-batches differ in length; `length` is then the
    longest of all."""
    head: Literal["causal_lm", "classification", "tagging", "masked_lm"] | None = None
    labels: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Classes or tags."""
    base_dtype: Dtype | None = None
    autocast: Dtype | None = None
    adapter_dtype: Dtype | None = None
    quantization: Literal["nf4", "fp4", "int8", "none"] | None = None
    """Of a frozen base: nf4 and fp4 in 4 bit, int8 as `load_in_8bit` has it."""
    double_quantization: bool | None = None
    compute_dtype: Dtype | None = None
    """What 4-bit maps compute in: `bnb_4bit_compute_dtype`, which is float32 where a script does not say it."""
    kbit_prepared: bool | None = None
    rank: Annotated[int, Field(ge=1, le=65_536)] | None = None
    target_modules: str | list[str] | None = None
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    dora: bool | None = None
    """Whether adapters are DoRA's, which have a length for each row of a map beside."""
    trained: list[str] | None = None
    """Parts that are trained whole, e.g. `["embed_tokens", "lm_head"]`."""
    optimizer: Literal[
        "adamw", "adamw_8bit", "paged_adamw_8bit", "adamw_bf16", "paged_adamw", "lion", "lion_8bit", "paged_lion",
        "paged_lion_8bit", "adafactor", "sgd", "none",
    ] = "adamw"  # fmt: skip
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """SGD's, for which it keeps a number a parameter."""
    optimizer_implementation: Literal["foreach", "fused", "single", "for-loop", "bitsandbytes"] | None = None
    optimizer_state_dtype: Dtype | Literal["uint8", "int8"] | None = None
    embeddings_in_fp32: bool | None = None
    """Whether an 8-bit optimizer keeps the embeddings' moments in fp32, as transformers' Trainer asks of it."""
    gradient_checkpointing: Literal["none", "layer"] | bool | None = None
    attention: Literal["flash", "efficient", "math", "eager"] | None = None
    loss: Literal["plain", "chunked", "chunked_nll", "fused", "as_is", "sum"] = "plain"
    """plain: transformers' own, with all logits; chunked: logits never exist at once (the engine's; with `kernels` liger Liger's,
    which takes the head along); chunked_nll: TRL's, a part at a time; fused: a kernel that puts the gradient of all logits
    in their place; as_is: a cross-entropy of all logits in the type they have, as loops of one's own take it; sum: none, but the
    sum of all logits, to compare kernels."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """As transformers' Trainer smooths labels: with a plain loss another one is made of all logits."""
    kernels: Literal["usual", "liger"] | None = None
    """Whose norms, gated maps and rotations run: `use_liger_kernel` puts Liger's in beside its loss, which then is the one meant
    by fused too."""
    outputs_held: bool | None = None
    """Whether the model's output lives through the backward pass, as after `out = model(**batch)`."""
    outputs_rebound: bool | None = None
    """Whether it lives on until the next step's forward pass has made another, as in a loop outside of any function."""
    use_cache: bool | None = None
    """Whether a decoder's outputs bring the keys and values of all tokens along, as its configuration says by itself, and as
    transformers' Trainer lets it up to 4.57. Where layers are computed again, only those of rows that are scored do."""
    keys_repeated: bool | None = None
    """Whether torch's attention is given grouped keys and values once for each query head, as transformers did up to 4.53."""
    older_attention: bool | None = None
    """Whether OPT, GPT-NeoX and GPT-2 attend as transformers wrote them up to 4.47."""
    transformers: Annotated[str, Field(pattern=r"^\d+\.\d+", max_length=40)] | None = None
    """The version that such a step was taken with, e.g. `4.48.1`, by which losses differ; all else is as in the installed one."""
    torch: Annotated[str, Field(pattern=r"^\d+\.\d+", max_length=40)] | None = None
    """The version that such a step was taken with, by which workspaces differ."""
    tf32: bool | None = None
    """Whether products of fp32 are computed in TF32: torch does not, unless it is asked to, since 1.12."""
    trl: Annotated[str, Field(pattern=r"^\d+\.\d+", max_length=40)] | None = None
    """The version whose SFTTrainer takes the step, and does by itself what the step leaves out (`TRLS`)."""
    bitsandbytes: Annotated[str, Field(pattern=r"^\d+\.\d+", max_length=40)] | None = None
    """The version whose 4-bit maps are trained beside."""
    target_length: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Tokens that an encoder-decoder writes for each row, where `length` are those that it reads."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Micro-batches of a step, whose gradients are summed: from the second on they live through the forward pass too."""
    use_reentrant: bool | None = None
    """Of checkpointing, as `gradient_checkpointing_kwargs` has it: transformers does it reentrant before 5 (`reentrant`)."""
    activation_offloading: bool | None = None
    """Whether what layers keep waits in the host's memory, as TRL's trainers can have it."""
    set_to_none: bool = True
    """Whether `zero_grad` drops the gradients; else they live through all of the next step, and its evaluation."""
    expandable_segments: bool | None = None
    """Whether `PYTORCH_ALLOC_CONF` says so: nothing of a block is left over, and less is reserved."""
    devices: Annotated[int, Field(ge=1, le=100_000)] = 1
    sharding: Literal["none", "ddp", "zero1", "zero2", "zero3", "fsdp"] | None = None
    fused_experts: bool | None = None
    """Whether the experts of a layer are one weight, which no 4-bit map replaces, as in transformers 5."""
    frozen_kept: bool | None = None
    """Whether frozen weights that FSDP has gathered stay whole until the backward pass is over."""

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        """Values by the names that other programs' arguments have for them."""
        if not isinstance(given, dict):
            return given
        said = {name: _spelt(given[name], WORDS[name]) for name in WORDS if isinstance(given.get(name), str | bool)}
        ours = {name: WORDS[name].get(word, word) for name, word in said.items()}
        beside = (BESIDE[pair] for pair in said.items() if pair in BESIDE)
        given = given | ours | {name: word for name, word in beside if given.get(name) is None}
        if (targets := given.get("target_modules")) is not None and _is_all_linear(targets):
            given["target_modules"] = "all-linear"
        if (given.get("quantization"), given.get("method")) == ("int8", "lora"):  # adapters over a base in bits
            given["method"] = "qlora"
        return given | _as_trl_does(given)

    @property
    def checkpointed(self) -> bool:
        """Whether activations are computed again a layer at a time."""
        return self.gradient_checkpointing in ("layer", True)

    @property
    def reentrant(self) -> bool:
        """Whether that is done by a backward pass within the backward pass, and not by hooks on what is saved."""
        told = ((getattr(self, name), first) for name, first in HOOKED.items())
        older = any(version is not None and version_of(version) < first for version, first in told)
        return older if self.use_reentrant is None else self.use_reentrant

    @property
    def waits(self) -> bool:
        """Whether the host waits for the device after each tensor's update, as with bitsandbytes (optim/optimizer.py, `step`)."""
        return waited_for(self.optimizer) or (self.optimizer == "adamw" and self.optimizer_implementation == "bitsandbytes")

    @property
    def pieces(self) -> int:
        """Micro-batches that are traced: all after the second do what the second does."""
        return min(self.gradient_accumulation_steps, 2)

    @property
    def adapters(self) -> bool:
        """Whether adapters are trained beside a frozen base."""
        return self.method != "full"


def waited_for(optimizer: str) -> bool:
    """Whether it is one of bitsandbytes' alone (`TrainingStep.waits`)."""
    return any(word in optimizer for word in ("8bit", "paged", "lion"))


def _is_all_linear(targets: Any) -> bool:
    """Whether that is peft's word for all maps, in whatever case, as it takes it; or a list of it alone."""
    word = targets[0] if isinstance(targets, list) and len(targets) == 1 else targets
    return isinstance(word, str) and word.strip().lower().replace("_", "-") == "all-linear"


def version_of(told: str) -> tuple[int, ...]:
    """Of a version's name its first three numbers."""
    return tuple(int(n) for n in re.findall(r"\d+", told)[:3])


def _as_trl_does(given: dict[str, Any]) -> dict[str, Any]:
    """What the version of TRL that a step names does by itself, of what the step leaves out."""
    told = given.get("trl")
    if not isinstance(told, str) or given.get("head") not in (None, "causal_lm"):
        return {}
    version, four_bit = version_of(told), given.get("method") == "qlora"
    found = {
        name: value
        for since, does, of_four_bit in TRLS if version >= since and (four_bit or not of_four_bit)
        for name, value in does.items()
        if (name not in given if name == "autocast" else given.get(name) is None)  # of which null is a word: none
    }  # fmt: skip
    if given.get("label_smoothing"):
        found.pop("loss", None)
    elif version >= TILED and given.get("loss") in (None, "plain"):
        found["loss"] = "chunked_nll"
    elif given.get("kernels") == "liger" and "loss" not in given:
        found["loss"] = "fused"
    return found


def _spelt(word: str | bool, known: dict[Any, Any]) -> str | bool:
    """A word as it stands here, however it was written."""
    if isinstance(word, bool):
        return word
    small = word.strip().lower().removeprefix("torch.")
    under = small.replace("-", "_")
    return under if under in known and small not in known else small
