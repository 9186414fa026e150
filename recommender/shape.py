"""The model's dimensions as the arithmetic needs them: every unknown replaced by a stated default."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from recommender.facts import CLASSIFYING, DataFacts, Family, ModelFacts, Task
from recommender.names import experts_in_name, size_in_name

BYTES_BY_DTYPE = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "uint8": 1, "int8": 1}
_FP16_HOSTILE = re.compile(r"gemma|qwen3[_.-]?5|qwen3[_.-]?moe|(^|[^a-z])(m|u|um|by|long)?t5|mt0", re.IGNORECASE)
"""Families that overflow in fp16: Gemma, Qwen3.5 and Qwen3-MoE (E32), the T5 family (trained in bf16, known to overflow)."""
_BITSANDBYTES = re.compile(r"bitsandbytes|llm_int8|(?<![a-z])(bnb|nf4|fp4)", re.IGNORECASE)
_GENERATORS = re.compile(
    r"causallm|lmheadmodel|llama|mistral|qwen|gpt|phi|gemma|falcon|bloom|opt\b|smollm|pythia|olmo|deepseek|internlm|stablelm",
    re.IGNORECASE,
)
_TRANSLATORS = re.compile(r"conditionalgeneration|t5|bart|pegasus|marian", re.IGNORECASE)
POSITIONS_AFTER_PADDING = frozenset((
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
))  # fmt: skip
"""Their first positions stand for padding: two fewer tokens fit than `max_position_embeddings` says."""
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")
EXPERTS_TAKEN = (
    "num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk", "moe_top_k", "top_k_experts",
)  # fmt: skip
DIMENSIONS: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "encoder_layers", "n_layer", "n_layers", "num_layers"),
    "decoder_layers": ("decoder_layers", "num_decoder_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim", "emb_dim", "n_embed"),
    "intermediate_size": (
        "intermediate_size", "n_inner", "d_ff", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "ffn_hidden_size", "dff",
    ),
    "attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "vocabulary_size": ("vocab_size", "padded_vocab_size", "n_vocab"),
    "max_positions": (
        "max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "max_seq_length", "n_ctx",
    ),
}  # fmt: skip
"""The names that models' configurations give their dimensions, usual ones first."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a transformer, all known or assumed. Counts are numbers of parameters."""

    family: Family
    parameters: int
    embedding_parameters: int
    layers: int
    hidden: int
    intermediate: int
    """Of one expert in a mixture of experts."""
    heads: int
    key_value_heads: int
    vocabulary: int
    positions: int
    experts: int = 1
    experts_per_token: int = 1
    active_parameters: int = 0
    """That one token passes through; all of them in a dense model."""
    never_quantised: int = 0
    """Of the linear maps, what 4-bit loading leaves in 16 bit: the experts of a mixture."""
    output_parameters: int = 0
    """Of the embeddings, those of an output layer with weights of its own: a linear map, not a table."""
    assumed: tuple[str, ...] = field(default=())
    """Facts that were not known, with the value taken instead, e.g. `layers 12`."""

    @property
    def linear_parameters(self) -> int:
        """Parameters of the layers' linear maps: what QLoRA quantises."""
        return max(self.parameters - self.embedding_parameters, 0)

    @property
    def active_linear_parameters(self) -> int:
        """Of those, what one token is multiplied with."""
        return max(self.active_parameters - self.embedding_parameters, 0)

    @property
    def table_parameters(self) -> int:
        """Parameters of the embeddings' tables, from which rows are looked up."""
        return min(self.embedding_parameters - self.output_parameters, self.parameters)

    @property
    def key_value_width(self) -> int:
        """Width of the key and value projections."""
        return self.key_value_heads * (self.hidden // max(self.heads, 1))

    @property
    def blocks(self) -> int:
        """Layers in all: an encoder-decoder has that many on both sides."""
        return self.layers * (2 if self.family == "encoder-decoder" else 1)

    @property
    def gated(self) -> bool:
        """Whether the feed-forward part has a third, gating map, as in Llama."""
        return self.family == "decoder"

    @property
    def active_intermediate(self) -> int:
        """Width of the feed-forward part that one token sees."""
        return self.intermediate * self.experts_per_token

    @property
    def adapter_parameters_per_rank(self) -> int:
        """Sum of d_in + d_out over all adapted linear layers: what one unit of LoRA rank costs.

        In a mixture every expert gets an adapter; its gate and its way up are one weight, adapted at twice the rank (peft 0.21).
        """
        h, i, kv = self.hidden, self.intermediate, self.key_value_width
        attention = 2 * (h + h) + 2 * (h + kv)
        mlp = (3 * h + 5 * i) * self.experts if self.experts > 1 else (3 if self.gated else 2) * (h + i)
        return self.blocks * (attention + mlp)


def shape_of(model: ModelFacts, task: Task | None = None) -> Shape:
    """Fill in what is not known. The defaults follow the usual proportions of BERT- and Llama-like models."""
    assumed: list[str] = []
    config = model.config or {}

    def known(name: str, value: int | None, default: int) -> int:
        if value is not None:
            return value
        named = _number_in(config, DIMENSIONS.get(name, ()))
        if named is not None:
            return named
        assumed.append(f"{name} {default}")
        return default

    family: Family = model.family or _family_guess(model, task)
    if model.family is None:
        assumed.append(f"family {family}")
    size = model.active_parameters or model.parameters or (None if config else size_in_name(model))
    hidden = max(known("hidden_size", model.hidden_size, _hidden_guess(size)), 1)
    layers = known("layers", model.layers, _layers_guess(hidden))
    intermediate = known("intermediate_size", model.intermediate_size, 4 * hidden)
    vocabulary = known("vocabulary_size", model.vocabulary_size, 32_000)
    embeddings = known("embedding_parameters", model.embedding_parameters, vocabulary * hidden)
    experts, per_token = _experts_of(model)
    wide = (_number_in(config, ("moe_intermediate_size",)) or intermediate) if experts > 1 else intermediate
    body = layers * (4 * hidden * hidden + (3 if family == "decoder" else 2) * hidden * wide * experts)
    heads = known("attention_heads", model.attention_heads, max(hidden // 64, 1)) or 1
    output = vocabulary * hidden
    untied = family != "encoder" and not model.tied_embeddings and embeddings >= 2 * output
    shape = Shape(
        family=family,
        parameters=known("parameters", model.parameters, size or embeddings + body),
        embedding_parameters=embeddings,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        key_value_heads=model.kv_heads or heads,
        vocabulary=vocabulary,
        positions=max(known("max_positions", positions_of(model), 512 if family == "encoder" else 4096), 2),
        never_quantised=model.expert_parameters or 0,
        output_parameters=output if untied else 0,
        assumed=tuple(assumed),
    )
    return _with_experts(shape, experts, per_token, model.active_parameters)


def _with_experts(shape: Shape, experts: int, per_token: int, active: int | None) -> Shape:
    """The width of one expert follows from the number of parameters: configurations name it in many ways."""
    if experts == 1:
        return replace(shape, active_parameters=min(active or shape.parameters, shape.parameters))
    h, kv = shape.hidden, shape.key_value_width
    attention = shape.layers * (2 * h * h + 2 * h * kv)
    in_experts = max(shape.linear_parameters - attention, 0)
    width = in_experts // max(shape.layers * experts * 3 * h, 1)
    left_out = in_experts * (experts - per_token) // experts
    return replace(
        shape,
        intermediate=max(width, 1),
        never_quantised=shape.never_quantised or in_experts,
        experts=experts,
        experts_per_token=per_token,
        active_parameters=min(active or shape.parameters - left_out, shape.parameters),
    )


def _family_guess(model: ModelFacts, task: Task | None) -> Family:
    """From names, else from what is to be done with it, else from size."""
    named = f"{model.architecture or ''} {model.id or ''} {(model.config or {}).get('model_type', '')}"
    if _TRANSLATORS.search(named):
        return "encoder-decoder"
    if _GENERATORS.search(named):
        return "decoder"
    if "bert" in named.lower() or "electra" in named.lower():
        return "encoder"
    writes = task is not None and task not in CLASSIFYING
    return "decoder" if writes or (model.parameters or size_in_name(model) or 0) > 1e9 else "encoder"


def _experts_of(model: ModelFacts) -> tuple[int, int]:
    """Experts in a layer and how many one token takes; 1 and 1 in a dense model."""
    config = model.config or {}
    experts = max(model.experts or _number_in(config, EXPERTS) or experts_in_name(model), 1)
    taken = model.experts_per_token or _number_in(config, EXPERTS_TAKEN) or min(2, experts)
    return experts, min(taken, experts) or 1


def positions_of(model: ModelFacts) -> int | None:
    """Tokens that the model reads at most, from its facts or its configuration; `None` where neither tells."""
    if model.max_positions is not None:
        return model.max_positions
    config = model.config or {}
    found = _number_in(config, DIMENSIONS["max_positions"])
    return found - 2 if found is not None and found > 2 and str(config.get("model_type")) in POSITIONS_AFTER_PADDING else found


def _number_in(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((int(config[n]) for n in names if isinstance(config.get(n), int) and 0 < config[n] < 10**9), None)


def _hidden_guess(parameters: int | None) -> int:
    """Hidden size of a usual model with that many parameters."""
    if parameters is None:
        return 768
    for limit, hidden in ((30e6, 384), (200e6, 768), (600e6, 1024), (2e9, 2048), (5e9, 3072), (10e9, 4096), (50e9, 5120)):
        if parameters <= limit:
            return hidden
    return 8192


def _layers_guess(hidden: int) -> int:
    """Layers of a usual model of that width."""
    for limit, layers in ((400, 6), (800, 12), (1100, 24), (2100, 16), (3100, 28), (4100, 32), (6000, 48)):
        if hidden <= limit:
            return layers
    return 80


def fp16_hostile(model: ModelFacts) -> bool:
    """Whether the family is known to overflow in fp16, mixed or not (E32)."""
    config = model.config or {}
    return any(_FP16_HOSTILE.search(str(n)) for n in (model.architecture, model.id, config.get("model_type")) if n)


def t5_like(model: ModelFacts) -> bool:
    """Whether it belongs to the T5 family, which wants higher learning rates than other encoder-decoders."""
    named = f"{model.architecture or ''} {model.id or ''} {(model.config or {}).get('model_type', '')}".lower()
    return "t5" in named


def checkpoint_bytes_per_parameter(model: ModelFacts) -> float:
    """Bytes a parameter takes in the checkpoint as published."""
    return quantised_bytes(model) or BYTES_BY_DTYPE.get(model.dtype or "float32", 4)


NF4_BYTES = 0.55
"""A 4-bit weight with its scales (0.516 with double quantisation), and room for the ones left in 16 bit."""


def quantised_bytes(model: ModelFacts) -> float | None:
    """Bytes a linear parameter takes in an already quantised checkpoint, scales included; `None` when it is not."""
    if not model.quantization:
        return None
    return 1.05 if re.search(r"8bit|int8|fp8|float8|8-bit|w8|q8|llm_int8", model.quantization.lower()) else NF4_BYTES


def quantised_elsewhere(model: ModelFacts) -> bool:
    """Whether the checkpoint is quantised by anything but bitsandbytes (GPTQ, AWQ, fp8, mxfp4, ...), whose weights adapters are
    not trained on here."""
    return bool(model.quantization) and not _BITSANDBYTES.search(model.quantization or "")


def counts_as_encoder(shape: Shape, data: DataFacts) -> bool:
    """Whether the encoder rules apply: an encoder, or a small model with a classifier head.

    Encoder-decoders score as encoders up to 0.6B parameters and as decoders above (evidence, after D4); encoders too.
    """
    if shape.parameters > 600_000_000:
        return False
    return shape.family != "decoder" or (data.task or "classification") in CLASSIFYING


def tuned_as_encoder(shape: Shape, data: DataFacts) -> bool:
    """Whether the encoder rows of the hyper-parameter table apply: they do for large encoders too."""
    return shape.family == "encoder" or counts_as_encoder(shape, data)
