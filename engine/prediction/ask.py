"""Asking for an estimate: what can be refused at once is, and the tracing is done in a child with limits.

Answers are kept by what they depend on: the facts, the installed libraries and this program's own code.
"""

import hashlib
import importlib.util
import json
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.inspection import cache as remembering
from engine.inspection.child import Cancel, ask
from engine.launch import arithmetic
from engine.prediction.resolve import check
from recommender.errors import InputError, Refused
from recommender.facts import Facts, ModelFacts

SECONDS = 240.0
TRACES = "traces"
MEMORY = 24 * 1024**3
"""Address space; torch alone reserves several GiB that it never touches."""
LIMITS: dict[str, tuple[tuple[str, ...], int]] = {
    "layers": (("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2_000),
    "hidden_size": (("hidden_size", "d_model", "n_embd", "dim"), 262_144),
    "attention_heads": (("num_attention_heads", "n_head", "num_heads", "n_heads"), 16_384),
    "vocabulary_size": (("vocab_size",), 50_000_000),
}
"""Names of the numbers that a configuration must have, and the most that any of them can reasonably be."""
OPTIONAL: tuple[tuple[str, int], ...] = (
    ("intermediate_size", 4_194_304),
    ("d_ff", 4_194_304),
    ("n_inner", 4_194_304),
    ("hidden_dim", 4_194_304),
    ("num_key_value_heads", 16_384),
    ("head_dim", 65_536),
    ("d_kv", 65_536),
    ("num_local_experts", 65_536),
    ("num_experts", 65_536),
    ("n_routed_experts", 65_536),
    ("moe_intermediate_size", 4_194_304),
    ("max_position_embeddings", 1 << 31),
    ("num_decoder_layers", 2_000),
    ("decoder_layers", 2_000),
    ("encoder_layers", 2_000),
)
"""Numbers that may be lacking, and their limits."""
MOST_PARAMETERS = 10**14
MOST_TOKENS = 1 << 31


class Cannot(Exception):
    """There is no prediction, and why."""

    def __init__(self, code: str, text: str, exit_code: int = 3) -> None:
        super().__init__(text)
        self.code, self.text, self.exit_code = code, text, exit_code


def estimate(facts: Facts, *, cancel: Cancel | None = None) -> dict[str, Any]:
    """Memory in bytes and time of the step of the facts, as `facts.md` has them.

    Raises:
        Cannot: the model or the step does not allow it.
    """
    step = facts.step
    if step is None:
        raise Cannot("no_step", "the facts have no `step`; estimate needs to know which step is meant.", 2)
    try:
        check(step, facts)
    except InputError as error:
        raise Cannot("contradiction", error.message, 2) from None
    facts = facts.model_copy(update={"model": checked(facts.model)})
    rows, length = step.micro_batch_rows, step.length
    if rows * length > MOST_TOKENS:
        raise Cannot("absurd_number", f"step: {rows:,} rows of {length:,} tokens are more than any device holds.", 2)
    return traced("estimate", facts.model_dump(mode="json"), about=facts.model.id or "the step", cancel=cancel)


def traced(
    kind: str, request: dict[str, Any], *, about: str, seconds: float = SECONDS, cancel: Cancel | None = None
) -> dict[str, Any]:
    """What the child says to a request, or has said before.

    Raises:
        Cannot: it cannot be traced.
    """
    key = key_of(kind, request)
    known = remembering.remembered(key, TRACES)
    if known is not None:
        return known
    try:
        asked = {"kind": kind, "asked": request}  # under the worker's threads and allocator: some operations are timed
        answer = ask("trace", asked, about=about, timeout=seconds, memory=MEMORY, extra=arithmetic(), cancel=cancel)
    except Refused as error:
        raise Cannot("untraceable", error.message) from None
    except InputError as error:
        raise Cannot("unusable", error.message, 2) from None
    remembering.remember(key, answer, TRACES)
    return answer


def key_of(kind: str, request: dict[str, Any]) -> str:
    """The name under which an answer is kept: with other libraries or other code of ours it would be another one."""
    return remembering.key_for({"kind": kind, "request": request, "code": code_of_traces(), "versions": _versions()})


def checked(model: ModelFacts) -> ModelFacts:
    """The model with a configuration that can be built from.

    Raises:
        Cannot: there is none, or it is not one of a known architecture, or its numbers cannot be meant.
    """
    config = model.config or _from_dimensions(model)
    if config.get("auto_map"):
        raise Cannot("custom_code", "cannot predict: the model brings code of its own, which is never run; probe it instead.")
    if model.weights_format == "gguf":
        raise Cannot("gguf", "cannot predict: GGUF weights cannot be trained; take the model as safetensors.")
    kind = config.get("model_type")
    if not isinstance(kind, str) or not _is_known(kind):
        named = f"of type {kind!r}" if kind else "without a model_type"
        raise Cannot("unknown_architecture", f"cannot predict: transformers has no model {named}; a real probe can measure it.")
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    filled, sizes = dict(config), {}
    for fact, (names, most) in LIMITS.items():
        found = [(n, source[n]) for source in (config, text) for n in names if isinstance(source, dict) and n in source]
        if not found and getattr(model, fact) is not None:
            found = [(names[0], getattr(model, fact))]
            filled[names[0]] = found[0][1]
        if not found:
            raise Cannot("missing_number", f"model.config: {names[0]} is missing, and without it nothing can be predicted.", 2)
        name, value = found[0]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise Cannot("absurd_number", f"model.config: {name} is {value!r}; between 1 and {most:,} can be meant.", 2)
        sizes[fact] = value
    _check_optional(config | (text or {}), sizes)
    return model.model_copy(update={"config": filled})


def _check_optional(config: dict[str, Any], sizes: dict[str, int]) -> None:
    """Numbers that contradict each other or cannot be meant, before anything is imported.

    Raises:
        Cannot: naming them.
    """
    for name, most in OPTIONAL:
        value, least = config.get(name), 0 if "experts" in name else 1
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most):
            raise Cannot("absurd_number", f"model.config: {name} is {value!r}; between {least} and {most:,} can be meant.", 2)
    hidden, heads = sizes["hidden_size"], sizes["attention_heads"]
    shared = config.get("num_key_value_heads")
    if shared is not None and heads % shared:
        said = f"num_key_value_heads is {shared}, and num_attention_heads, {heads}, is no multiple of it"
        raise Cannot("contradiction", f"model.config: {said}.", 2)
    if hidden % heads and not any(config.get(name) for name in ("head_dim", "d_kv", "qk_head_dim", "kv_lora_rank")):
        said = f"hidden_size is {hidden}, and no multiple of num_attention_heads, {heads}"
        raise Cannot("contradiction", f"model.config: {said}.", 2)
    wide = next((int(config[n]) for n in ("intermediate_size", "d_ff", "n_inner") if config.get(n)), 4 * hidden)
    experts = next((int(config[n]) for n in ("num_local_experts", "num_experts", "n_routed_experts") if config.get(n)), 1)
    parameters = sizes["layers"] * hidden * (4 * hidden + 3 * wide * experts) + sizes["vocabulary_size"] * hidden
    if parameters > MOST_PARAMETERS:
        said = f"these sizes make a model of about {parameters:.0e} parameters, which nobody has"
        raise Cannot("absurd_number", f"model.config: {said}.", 2)


def _from_dimensions(model: ModelFacts) -> dict[str, Any]:
    """A configuration from the facts' own numbers, where the architecture's name says which kind it is."""
    kind = _kind_of(model.architecture) if model.architecture else None
    if kind is None:
        raise Cannot("no_config", "cannot predict: model.config (config.json) is not among the facts.", 2)
    named = {
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.attention_heads,
        "num_key_value_heads": model.kv_heads,
        "intermediate_size": model.intermediate_size,
        "vocab_size": model.vocabulary_size,
        "max_position_embeddings": model.max_positions,
        "tie_word_embeddings": model.tied_embeddings,
    }
    return {"model_type": kind, "architectures": [model.architecture]} | {k: v for k, v in named.items() if v is not None}


@cache
def _auto(name: str) -> str:
    """The text of one of transformers' tables, which is read and not imported: importing takes seconds."""
    spec = importlib.util.find_spec("transformers")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    try:
        return (folder / "models" / "auto" / name).read_text(encoding="utf-8")
    except OSError:
        return ""


def _is_known(kind: str) -> bool:
    tables = _auto("auto_mappings.py") + _auto("configuration_auto.py")
    return not tables or f'"{kind}"' in tables


def _kind_of(architecture: str) -> str | None:
    found = re.search(rf'\("([\w-]+)", "{re.escape(architecture)}"\)', _auto("modeling_auto.py"))
    return found[1] if found else None


@cache
def code_of_traces() -> str:
    """A fingerprint of the code that traces: newer code never serves what older code found."""
    root = Path(__file__).parents[1]
    whole = hashlib.sha256()
    for file in sorted([*root.glob("prediction/*.py"), *root.glob("worker/**/*.py")]):
        whole.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "transformers", "peft", "bitsandbytes"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def as_json(answer: dict[str, Any]) -> str:
    """One line."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)
