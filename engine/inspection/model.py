"""Facts about a model folder: its config.json and the headers of its weights, bounded and checked. No torch, no weights."""

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.files import json_object
from engine.inspection.families import family_of
from engine.inspection.gguf import gguf_file, inspect_gguf
from engine.inspection.headers import an_adapter, read_weights, sampled
from engine.inspection.manners import chat_template, end_of_turn, instruct, licence, tokenizer_class
from engine.inspection.quantized import bits_of, method_of
from engine.inspection.weights import Kind, Weights, active
from engine.text import one_line
from recommender.errors import InputError
from recommender.facts import ModelFacts
from recommender.shape import DIMENSIONS, EXPERTS, EXPERTS_TAKEN, POSITIONS_AFTER_PADDING

LARGEST_CONFIG = 10_000_000
DEEPEST_CONFIG = 40
LARGEST = {
    "layers": 10_000, "decoder_layers": 10_000, "hidden_size": 10**6, "intermediate_size": 10**7, "attention_heads": 10**5,
    "kv_heads": 10**5, "vocabulary_size": 10**8, "max_positions": 10**9,
}  # fmt: skip
"""The largest value that is believed of a dimension."""
TOKENIZERS = (
    "tokenizer.json", "vocab*", "*vocab.json", "*.model", "*.spm", "*.tiktoken", "tekken.json", "bpe.codes", "dict.txt",
    "*.tokenizer",
)  # fmt: skip
"""What transformers' tokenizers keep their words in."""
OF_BYTES = ("byt5", "canine", "perceiver")
"""Tokenizers that read bytes or characters, and keep no words."""
ROUTED_TO = {"switch_transformers": 1, "nllb-moe": 2}
"""Experts a token takes in models that never took another number."""


def inspect_folder(path: str, name: str | None = None, *, whole: bool = False) -> dict[str, Any]:
    """Facts, fingerprint and path of the model in a folder, or of a GGUF file or the folder that holds one, as JSON.

    With `whole` it must hold a tokenizer too, as a run needs it.

    Raises:
        InputError: no such folder, no config, no usable weights, a config that cannot be believed, or no tokenizer.
    """
    folder = Path(path)
    file = gguf_file(folder)
    if file is not None:
        return inspect_gguf(file, name)
    if not folder.is_dir():
        raise InputError(f"{path}: is not a folder; give the folder with config.json and model.safetensors.")
    found = described(folder, name or path, lambda: read_weights(folder))
    found["fingerprint"] = hashlib.sha256(bytes.fromhex(found["headers"]) + sampled(folder)).hexdigest()
    if whole and not has_tokenizer(folder):
        raise InputError(no_tokenizer(path))
    return found


def no_tokenizer(folder: str) -> str:
    """What to say of a model folder without one."""
    why = "the folder holds no tokenizer.json and no vocabulary; copy these files there too"
    return f"{folder}: its tokenizer cannot be loaded: {why}."


def has_tokenizer(folder: Path) -> bool:
    """Whether there is a file that a tokenizer is made of, or it is one of those that read bytes and need none."""
    if any(next(folder.glob(pattern), None) is not None for pattern in TOKENIZERS):
        return True
    config = json_object(folder / "config.json") or {}
    named = tokenizer_class(folder) or config.get("tokenizer_class") or config.get("model_type")
    return str(named).lower().startswith(OF_BYTES)


def is_another(found: dict[str, Any], wanted: str | None) -> bool:
    """Whether a model that `inspect_folder` found is not the one of a plan's fingerprint, if it has one. Plans of hub models,
    whose weights may not have been here, and older ones know its configuration and headers alone."""
    return wanted not in (None, found["fingerprint"], found.get("headers"))


def described(folder: Path, name: str, read: Callable[[], Weights]) -> dict[str, Any]:
    """The answer of `inspect_folder` for the config in `folder` and the weights that `read` finds, here or on the hub.

    Raises:
        InputError: no config, one that cannot be believed, or what `read` raises.
    """
    raw, config = _config(folder)
    dimensions = _dimensions(folder, config)
    weights = read()
    return {
        "facts": _facts(folder, name, config, dimensions, weights).model_dump(mode="json"),
        "path": str(folder.absolute()),
        "headers": hashlib.sha256(raw + weights.digest).hexdigest(),
    }


def _config(folder: Path) -> tuple[bytes, dict[str, Any]]:
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(_no_config(folder))
    with path.open("rb") as file:
        raw = file.read(LARGEST_CONFIG + 1)
    if len(raw) > LARGEST_CONFIG:
        raise InputError(f"{path}: is larger than 10 MB, which no model's config is; download the model again.")
    try:
        config = json.loads(raw, parse_constant=_not_finite, parse_float=_finite)
        too_deep = _depth(config) > DEEPEST_CONFIG
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}: not JSON ({error.msg}, column {error.colno}); download the model again."
        ) from None
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else one_line(error, 100)
        raise InputError(f"{path}: not usable as JSON ({why}); download the model again.") from None
    if not isinstance(config, dict) or too_deep:
        raise InputError(f"{path}: is no model's config; download the model again.")
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{path}: names no model_type, so the kind of model is not known; get the model in the usual layout.")
    return raw, config


def _no_config(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return an_adapter(folder)
    inside = sorted(p.parent.name for p in folder.glob("*/config.json") if not re.match(r"\d_", p.parent.name))
    hint = f" Did you mean {folder / inside[0]}?" if inside else ""
    wanted = "give the folder with config.json and model.safetensors."
    return f"{folder}: has no config.json, so it is not a model folder; {wanted}{hint}"


def _not_finite(text: str) -> float:
    raise ValueError(f"it holds {text}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("it holds a number beyond all bounds")
    return number


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inside), default=0)


def _dimensions(folder: Path, config: dict[str, Any]) -> dict[str, int | None]:
    """Every dimension the config names, within bounds."""
    # Multimodal models keep the text side's dimensions one level down.
    nested = config.get("text_config")
    levels = [config, nested] if isinstance(nested, dict) else [config]
    found: dict[str, int | None] = {}
    for fact, names in DIMENSIONS.items():
        found[fact], most = None, LARGEST[fact]
        for name, value in ((n, level.get(n)) for level in levels for n in names):
            if value is None:
                continue
            if isinstance(value, list) and value and all(type(one) is int for one in value):
                value = max(value)  # one a layer
            if type(value) is not int or not 1 <= value <= most:
                if fact == "max_positions" and value == -1:  # XLNet and T5: no limit
                    break
                raise InputError(
                    f"{folder / 'config.json'}: {name} is {one_line(json.dumps(value), 40)};"
                    f" a whole number from 1 to {most:,} was expected."
                )
            found[fact] = value
            break
    return found


def _facts(folder: Path, name: str, config: dict[str, Any], found: dict[str, int | None], weights: Weights) -> ModelFacts:
    nested = config.get("text_config")
    text: dict[str, Any] = nested if isinstance(nested, dict) else config
    table = weights.token_table()
    family = family_of(config) or (family_of(text) if text is not config else None)
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    if not isinstance(tied, bool):
        tied = family == "encoder" or not weights.has_output_layer
    experts = _experts(text) or _experts(config)
    kind = Kind(family, tied, bits_of(config), experts[0] if experts else None, found["layers"])
    counts = weights.count(kind)
    chat = chat_template(folder)
    hidden = found["hidden_size"] or (table[1] if table else None)
    heads = found["attention_heads"]
    positions = found["max_positions"]
    if positions and config["model_type"] in POSITIONS_AFTER_PADDING and positions > 2:
        positions -= 2
    names = config.get("architectures")
    return ModelFacts(
        id=one_line(name, 300),
        path=str(folder.absolute()),
        family=family,
        parameters=counts.total,
        embedding_parameters=counts.embeddings,
        linear_parameters=counts.linear,
        other_parameters=counts.other + counts.experts,
        experts=experts[0] if experts else None,
        experts_per_token=experts[1] if experts else None,
        expert_parameters=counts.experts if experts else None,
        active_parameters=active(counts.total, counts.experts, experts),
        layers=found["layers"],
        decoder_layers=found["decoder_layers"] if family == "encoder-decoder" else None,
        hidden_size=hidden,
        intermediate_size=found["intermediate_size"] or (4 * hidden if hidden else None),
        attention_heads=heads,
        kv_heads=1 if config.get("multi_query") is True else found["kv_heads"] or heads,
        vocabulary_size=found["vocabulary_size"] or (table[0] if table else None),
        max_positions=positions,
        tied_embeddings=tied,
        dtype=weights.dtype,
        quantization=method_of(config),
        instruct=family in ("decoder", None) and instruct(name, chat, end_of_turn(folder)),
        chat_template=chat is not None,
        license=licence(folder),
        architecture=one_line(names[0], 100) if isinstance(names, list) and names else None,
        config=config,
        weights_bytes=weights.size,
        weights_format="safetensors",
    )


def _experts(config: dict[str, Any]) -> tuple[int, int | None] | None:
    """How many experts there are in a layer and how many one token takes; `None` in a dense model."""
    count = next((n for name in EXPERTS if type(n := config.get(name)) is int and 2 <= n <= 100_000), None)
    if count is None:
        return None
    taken = next((n for name in EXPERTS_TAKEN if type(n := config.get(name)) is int and 1 <= n <= count), None)
    return count, taken if taken is not None else ROUTED_TO.get(str(config.get("model_type")))
