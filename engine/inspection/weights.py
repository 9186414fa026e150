"""What the headers of safetensors files say: names, shapes and types of tensors. No weight is read."""

import hashlib
import json
import math
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.text import one_line
from recommender.errors import InputError

LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library."""
LARGEST_INDEX = 50_000_000
BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F4": "float4", "I8": "int8", "U8": "uint8", "I32": "int32", "I64": "int64",
}  # fmt: skip
"""Names as torch writes them."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_BUFFERS = re.compile(r"(rotary_emb\.inv_freq|masked_bias|position_ids|token_type_ids|\.num_batches_tracked)$")
_CAUSAL_MASK = re.compile(r"\.attn(\.attention)?\.bias$")
_PACKING = re.compile(
    r"(\.absmax|\.quant_map|\.nested_\w+|\.quant_state\.\w+|\.scales|_scales?|_scale_inv|\.SCB|\.qzeros|\.g_idx|_zero_point)$"
)
_TASK_HEAD = re.compile(
    r"^(cls|classifier|score|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector|predictions|pre_classifier"
    r"|discriminator_predictions|generator_predictions|generator_lm_head|mask_predictions|lm_predictions)\."
)
_OUTPUT = re.compile(r"(^|\.)(lm_head|embed_out)\.")
_EMBEDDINGS = frozenset(
    {
        "embeddings", "wte", "wpe", "embed_tokens", "embed_positions", "word_embeddings", "word_embeddings_layernorm",
        "embed_in", "tok_embeddings", "shared", "lm_head", "embed_out", "tokens_embed", "positions_embed",
    }
)  # fmt: skip
_TOKEN_TABLE = ("word_embeddings", "wte", "embed_tokens", "shared", "embed_in", "tok_embeddings", "tokens_embed")


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
class Weights:
    """All tensors of a model folder."""

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

    def count(self, *, tied: bool, packed: int) -> tuple[int, int]:
        """Parameters of the model and those of its embeddings, an untied output layer among them.

        Task heads of pre-training (`cls`, `classifier`, ...), buffers and the side tables of quantised layers do not count.
        `packed` is how many parameters one stored 8-bit number of a quantised layer holds; 0 when nothing is quantised.
        """
        names = {t.name for t in self.tensors}
        total = embeddings = 0
        for tensor in self.tensors:
            name = tensor.name
            if _BUFFERS.search(name) or _TASK_HEAD.search(name) or (tied and _OUTPUT.search(name)):
                continue
            if _CAUSAL_MASK.search(name) and len(tensor.shape) == 4:
                continue
            if "shared.weight" in names and re.search(r"(encoder|decoder)\.embed_tokens\.weight$", name):
                continue
            if packed and _PACKING.search(name):
                continue
            whole_numbers = tensor.dtype[0] in "IUB" and not tensor.dtype.startswith("BF")
            if whole_numbers and not packed:
                continue
            count = tensor.numbers * packed * BITS[tensor.dtype] // 8 if whole_numbers else tensor.numbers
            total += count
            if _EMBEDDINGS.intersection(name.split(".")):
                embeddings += count
        return total, embeddings


def read_weights(folder: Path) -> Weights:
    """The headers of all weights in a model folder.

    Raises:
        InputError: none, only pickled ones, a shard missing, or a damaged file.
    """
    tensors: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    size = 0
    for path in _files(folder):
        length = path.stat().st_size
        raw = _raw_header(path, length)
        for tensor in _tensors(path, raw, length - 8 - len(raw)):
            tensors[tensor.name] = tensor
        digest.update(f"{path.name}\n{length}\n".encode())
        digest.update(raw)
        size += length
    if not tensors:
        raise InputError(f"{folder}: the safetensors file holds no tensors; get the model again.")
    return Weights(tuple(tensors.values()), size, digest.digest())


def _files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        return _shards(folder, index)
    other = sorted(p.name for p in folder.glob("*.safetensors"))
    if other == ["adapter_model.safetensors"]:
        raise InputError(f"{folder} holds an adapter, not a model; give the base model it was trained on.")
    if other:
        raise InputError(
            f"{folder}: holds {one_line(other[0])} but neither model.safetensors nor model.safetensors.index.json;"
            " rename it, or get the model in the usual layout."
        )
    pickled = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    if pickled:
        raise InputError(
            f"{folder}: its weights are pickled ({one_line(pickled[0])}), and a pickle can run code;"
            " convert them to safetensors (save_pretrained writes it) and try again."
        )
    if any(folder.glob("*.gguf")):
        raise InputError(f"{folder}: holds GGUF weights, which are made for inference; get the model as safetensors.")
    raise InputError(f"{folder}: has a config.json but no weights; model.safetensors is missing.")


def _shards(folder: Path, index: Path) -> list[Path]:
    with index.open("rb") as file:
        raw = file.read(LARGEST_INDEX + 1)
    try:
        names = sorted(set(json.loads(raw)["weight_map"].values())) if len(raw) <= LARGEST_INDEX else []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        names = []
    if not names or not all(isinstance(n, str) for n in names):
        raise InputError(f"{index}: is damaged (it lists no weight files); get the model again.")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index}: names {one_line(name, 80)}, which is not a safetensors file beside it.")
    missing = [n for n in names if not (folder / n).is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(names)} weight files are missing, first {one_line(missing[0], 80)};"
            " finish the download."
        )
    return [folder / n for n in names]


def _raw_header(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        head = file.read(8)
        if head.startswith(b"version "):
            raise InputError(f"{path}: is a Git LFS pointer, not the weights; run `git lfs pull` in that folder.")
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
        if not 2 <= length <= min(size - 8, LARGEST_HEADER):
            raise _damaged(path, "its header is longer than the file" if length > size - 8 >= 0 else "it has no header")
        return file.read(length)


def _tensors(path: Path, raw: bytes, space: int) -> list[Tensor]:
    try:
        header: Any = json.loads(raw)
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no list of tensors")
    header.pop("__metadata__", None)
    found: list[Tensor] = []
    end = 0
    for name, entry in header.items():
        try:
            dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            bits = BITS[dtype]
        except (TypeError, KeyError, ValueError):
            raise _damaged(path, f"tensor {one_line(name, 80)} is described in an unknown way") from None
        whole = all(type(n) is int and n >= 0 for n in (*shape, first, last))
        if not whole or last - first != math.prod(shape) * bits // 8:
            raise _damaged(path, f"size and shape of tensor {one_line(name, 80)} do not agree")
        end = max(end, last)
        found.append(Tensor(name, dtype, shape, last - first))
    if end != space:
        missing = "; the download was cut short" if end > space else ""
        raise _damaged(path, f"it should hold {end} bytes of weights and holds {space}{missing}")
    return found


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path}: damaged safetensors file ({why}); get it again.")
