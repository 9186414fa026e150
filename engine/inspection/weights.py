"""What a model's tensors are for, told by their names and shapes: embeddings, linear maps, experts, or not counted."""

import math
import re
from collections import Counter
from dataclasses import dataclass

from recommender.facts import Family

BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F4": "float4", "I8": "int8", "U8": "uint8", "I32": "int32", "I64": "int64",
}  # fmt: skip
"""Names as torch writes them."""

_BUFFERS = re.compile(
    r"(rotary_emb\.inv_freq|rotary_pos_emb\.inv_freq|masked_bias|position_ids|token_type_ids|\.num_batches_tracked"
    r"|^final_logits_bias)$"
)
_CAUSAL_MASK = re.compile(r"\.(attn|attention)(\.attention)?\.bias$")
_PACKING = re.compile(
    r"(\.absmax|\.quant_map|\.nested_\w+|\.quant_state\.\w+|\.scales|_scales?|_scale_2|_scale_inv|\.SCB|\.weight_format"
    r"|\.qzeros|\.g_idx|_g_idx|\.weight_shape|_zero_point)$"
)
"""Side tables of quantised layers."""
_TASK_HEAD = re.compile(
    r"^(cls|classifier|score|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector|predictions|pre_classifier"
    r"|discriminator_predictions|generator_predictions|generator_lm_head|mask_predictions|lm_predictions|pred_layer"
    r"|lm_loss|sop_classifier|mtp)\."
    r"|^(head\.(dense|norm)|decoder)\.(weight|bias)$"
)
"""Heads of pre-training and of other tasks; ModernBERT calls its own `head` and `decoder`. `mtp` predicts a second token."""
_OUTPUT = re.compile(r"(^|\.)(lm_head|embed_out)\.")
_EMBEDDINGS = frozenset(
    {
        "embeddings", "wte", "wpe", "embed_tokens", "embed_positions", "word_embeddings", "word_embeddings_layernorm",
        "embed_in", "tok_embeddings", "shared", "lm_head", "embed_out", "tokens_embed", "positions_embed",
        "rel_embeddings", "relative_attention_bias", "word_embedding", "position_embeddings", "embed_tokens_per_layer",
    }
)  # fmt: skip
_TOKEN_TABLE = ("word_embeddings", "wte", "embed_tokens", "shared", "embed_in", "tok_embeddings", "tokens_embed")
_EXPERT = re.compile(r"(^|\.)experts\.")
_ROUTER = re.compile(r"\.(gate|router|router\.classifier|router\.layer)\.(weight|bias|e_score_correction_bias)$")
_MAP = re.compile(r"(\.weight|\.qweight|\.weight_packed)$")
_LAYER = re.compile(r"^model\.layers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file; `dtype` as safetensors writes it, `size` in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def numbers(self) -> int:
        """Numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a model's config says that its tensors' names do not."""

    family: Family | None = None
    tied: bool = True
    """Input and output embeddings are one table."""
    bits: int | None = None
    """Of one weight of a quantised layer; `None` when nothing is quantised."""
    experts: int | None = None
    layers: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Parameters of a model, each counted once: `embeddings + linear + experts + other`."""

    embeddings: int = 0
    """An untied output layer among them."""
    linear: int = 0
    """In two-dimensional maps that LoRA adapts and QLoRA quantises."""
    experts: int = 0
    """In the routed experts of a mixture."""
    other: int = 0
    """Norms, biases, convolutions, routers."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.embeddings + self.linear + self.experts + self.other


@dataclass(frozen=True, slots=True)
class Weights:
    """All tensors of a model."""

    tensors: tuple[Tensor, ...]
    size: int
    """Bytes of the files."""
    digest: bytes
    """Over names, sizes and headers of the files."""

    @property
    def dtype(self) -> str | None:
        """The type that most bytes have."""
        bytes_of: Counter[str] = Counter()
        for tensor in self.tensors:
            bytes_of[tensor.dtype] += tensor.size
        return DTYPES.get(bytes_of.most_common(1)[0][0]) if bytes_of else None

    @property
    def has_output_layer(self) -> bool:
        """Whether a language-model head of its own is stored."""
        return any(_OUTPUT.search(t.name) for t in self.tensors)

    def token_table(self) -> tuple[int, int] | None:
        """Rows and width of the table of token embeddings."""
        for name in _TOKEN_TABLE:
            for tensor in self.tensors:
                if f".{name}.weight" in f".{tensor.name}" and len(tensor.shape) == 2:
                    return tensor.shape[0], tensor.shape[1]
        return None

    def count(self, kind: Kind) -> Counts:
        """Parameters by what they are for, those of packed checkpoints as if unpacked.

        Task heads of pre-training (`cls`, `classifier`, ...), buffers and the side tables of quantised layers do not count.
        """
        shared = any(f".{t.name}".endswith(".shared.weight") for t in self.tensors)
        found: Counter[str] = Counter()
        for tensor in self.tensors:
            if not _ignored(tensor, kind, shared=shared):
                found[_part(tensor, kind)] += _parameters(tensor, kind)
        return Counts(found["embeddings"], found["linear"], found["experts"], found["other"])


def _ignored(tensor: Tensor, kind: Kind, *, shared: bool) -> bool:
    name = tensor.name
    if _BUFFERS.search(name) or _TASK_HEAD.search(name):
        return True
    # An encoder's own `lm_head` is a head of pre-training, whole layers of it.
    if _OUTPUT.search(name) and (kind.tied or kind.family == "encoder"):
        return True
    if _CAUSAL_MASK.search(name) and len(tensor.shape) == 4:
        return True
    if shared and re.search(r"(encoder|decoder)\.embed_tokens\.weight$", name):
        return True
    if kind.bits and _PACKING.search(name):
        return True
    layer = _LAYER.match(name)
    if layer and kind.layers and kind.family == "decoder" and int(layer.group(1)) >= kind.layers:
        return True  # a layer for predicting further tokens, which transformers does not load
    return _whole_numbers(tensor) and not kind.bits


def _whole_numbers(tensor: Tensor) -> bool:
    return tensor.dtype[0] in "IUB" and not tensor.dtype.startswith("BF")


def _parameters(tensor: Tensor, kind: Kind) -> int:
    if kind.bits and _whole_numbers(tensor):
        return tensor.numbers * BITS[tensor.dtype] // kind.bits
    return tensor.numbers


def _part(tensor: Tensor, kind: Kind) -> str:
    if _EMBEDDINGS.intersection(tensor.name.split(".")):
        return "embeddings"
    if kind.experts and (_EXPERT.search(tensor.name) or (len(tensor.shape) == 3 and tensor.shape[0] == kind.experts)):
        return "experts"
    if len(tensor.shape) == 2 and _MAP.search(tensor.name) and not (kind.experts and _ROUTER.search(tensor.name)):
        return "linear"
    return "other"


def active(total: int, in_experts: int, experts: tuple[int, int | None] | None) -> int | None:
    """Parameters that one token passes through; `None` in a dense model or where it is not known.

    `experts` are those of a layer, and how many of them a token takes.
    """
    if experts is None or experts[1] is None or not in_experts:
        return None
    return total - in_experts + in_experts * min(experts[1], experts[0]) // experts[0]
