"""Facts from a GGUF file: its metadata and the list of its tensors, bounded and checked. No weight is read."""

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

from engine.inspection.gguf_file import Content, read
from engine.inspection.manners import instruct, licence
from engine.inspection.weights import active
from engine.text import one_line
from recommender.errors import InputError
from recommender.facts import Family, ModelFacts

DTYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}
KEYS = {
    "layers": ("block_count", 10_000),
    "decoder_layers": ("decoder_block_count", 10_000),
    "hidden_size": ("embedding_length", 10**6),
    "intermediate_size": ("feed_forward_length", 10**7),
    "attention_heads": ("attention.head_count", 10**5),
    "kv_heads": ("attention.head_count_kv", 10**5),
    "max_positions": ("context_length", 10**9),
    "experts": ("expert_count", 10**5),
    "experts_per_token": ("expert_used_count", 10**5),
    "vocabulary_size": ("vocab_size", 10**8),
}
"""What the file calls a dimension, after the name of its architecture, and the largest value believed."""
_FAMILIES: dict[str, Family] = {"t5": "encoder-decoder", "t5encoder": "encoder"}
_EMBEDDINGS = re.compile(r"^(token_embd|output|position_embd|token_types|per_layer_token_embd)\.(weight|bias)$")
_BUFFERS = re.compile(r"(^|\.)rope_(freqs|factors_long|factors_short)\.weight$")
_NO_MAP = re.compile(r"(norm|conv|ffn_gate_inp|attn_rel_b|exp_probs_b)")
_EXPERTS = re.compile(r"_exps\.weight$")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only model in a folder without safetensors.

    Raises:
        InputError: the folder holds several.
    """
    if path.suffix.lower() == ".gguf" and path.is_file():
        return path
    if not path.is_dir() or any(path.glob("*.safetensors")) or (path / "model.safetensors.index.json").is_file():
        return None
    files = sorted(p for p in path.glob("*.gguf") if not p.name.lower().startswith("mmproj"))
    models = [p for p in files if (part := _PART.search(p.name)) is None or int(part.group(1)) == 1]
    if len(models) > 1:
        first = one_line(models[0].name, 80)
        raise InputError(f"{path}: holds {len(models)} GGUF models; name one of them, for example {first}.")
    return next(iter(models or files), None)


def inspect_gguf(path: Path, name: str | None = None) -> dict[str, Any]:
    """Facts, fingerprint and path of a GGUF model, as JSON; its parts are read when it was split.

    Raises:
        InputError: damaged, cut short, a part missing, or no language model.
    """
    files = _parts(path)
    contents = [read(file) for file in files]
    digest = hashlib.sha256()
    for content in contents:
        digest.update(f"{content.length}\n".encode())
        digest.update(content.digest)
    facts = _facts(files[0], name or str(path), contents)
    return {"facts": facts.model_dump(mode="json"), "path": str(files[0].absolute()), "fingerprint": digest.hexdigest()}


def _parts(path: Path) -> list[Path]:
    part = _PART.search(path.name)
    if part is None:
        return [path]
    start, count = path.name[: part.start()], int(part.group(2))
    files = [path.with_name(f"{start}-{place:05d}-of-{count:05d}.gguf") for place in range(1, count + 1)]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        first = one_line((missing or [path])[0].name, 80)
        raise InputError(f"{path}: {len(missing)} of {count} parts are missing, first {first}; finish the download.")
    return files


def _facts(path: Path, name: str, contents: list[Content]) -> ModelFacts:
    values = contents[0].values
    architecture = _architecture(path, values)
    found = {fact: _whole(path, f"{architecture}.{key}", values, most) for fact, (key, most) in KEYS.items()}
    tensors = [tensor for content in contents for tensor in content.tensors if not _BUFFERS.search(tensor.name)]
    parts: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for tensor in tensors:
        parts[_part(tensor.name, len(tensor.shape))] += tensor.numbers
        stored[tensor.type] += tensor.numbers
    if not tensors:
        raise InputError(f"{path}: holds no tensors; download it again.")
    total = sum(parts.values())
    main = stored.most_common(1)[0][0]
    table = next((t.shape for t in tensors if t.name == "token_embd.weight" and len(t.shape) == 2), None)
    words = values.get("tokenizer.ggml.tokens")
    template = values.get("tokenizer.chat_template")
    template = template if isinstance(template, str) and template.strip() else None
    given = values.get("general.license")
    family = _FAMILIES.get(architecture, "encoder" if "bert" in architecture else "decoder")
    experts = (found["experts"], found["experts_per_token"]) if found["experts"] else None
    return ModelFacts(
        id=one_line(name, 300),
        path=str(path.absolute()),
        family=family,
        parameters=total,
        embedding_parameters=parts["embeddings"],
        linear_parameters=parts["linear"],
        other_parameters=parts["other"] + parts["experts"],
        experts=experts[0] if experts else None,
        experts_per_token=experts[1] if experts else None,
        expert_parameters=parts["experts"] if experts else None,
        active_parameters=active(total, parts["experts"], experts),
        layers=found["layers"],
        decoder_layers=found["decoder_layers"],
        hidden_size=found["hidden_size"] or (table[0] if table else None),
        intermediate_size=found["intermediate_size"],
        attention_heads=found["attention_heads"],
        kv_heads=found["kv_heads"] or found["attention_heads"],
        # The shape is written innermost first.
        vocabulary_size=found["vocabulary_size"] or (table[1] if table else words if isinstance(words, int) else None),
        max_positions=found["max_positions"],
        tied_embeddings=not any(tensor.name == "output.weight" for tensor in tensors),
        dtype=DTYPES.get(main),
        quantization=None if main in DTYPES else main,
        instruct=family == "decoder" and instruct(name, template, None),
        chat_template=template is not None,
        license=one_line(given, 80) if isinstance(given, str) and given else licence(path.parent),
        architecture=one_line(architecture, 100),
        weights_bytes=sum(content.length for content in contents),
        weights_format="gguf",
    )


def _architecture(path: Path, values: dict[str, Any]) -> str:
    """Raises InputError where the file holds no language model."""
    architecture = values.get("general.architecture")
    if values.get("general.type") == "adapter":
        raise InputError(f"{path}: holds an adapter, not a model; give the base model it was trained on.")
    if not isinstance(architecture, str) or architecture == "clip" or values.get("general.type") == "mmproj":
        raise InputError(f"{path}: is not a language model (it says {one_line(architecture, 40)}); give another file.")
    return architecture


def _part(name: str, dimensions: int) -> str:
    if _EMBEDDINGS.search(name):
        return "embeddings"
    if _EXPERTS.search(name) and dimensions == 3:
        return "experts"
    return "linear" if dimensions == 2 and name.endswith(".weight") and not _NO_MAP.search(name) else "other"


def _whole(path: Path, key: str, values: dict[str, Any], most: int) -> int | None:
    """A whole number; of numbers for each layer the largest. Zero means that there is none."""
    value = values.get(key)
    if isinstance(value, list):
        value = max((v for v in value if type(v) is int), default=None)
    if value is None or value == 0:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise InputError(f"{path}: {one_line(key, 80)} is {one_line(value, 40)}; a whole number from 1 to {most:,} was expected.")
    return value
