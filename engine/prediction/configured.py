"""A model's configuration, checked before any library is imported: what cannot be predicted is said within a second."""

import math
import re
from typing import Any

from engine.prediction import library
from engine.prediction.config_names import (
    ACTIVATIONS,
    AS_PUBLISHED,
    DIMENSIONS,
    FRACTIONS,
    LIMITS,
    MOST_PARAMETERS,
    OPTIONAL,
    POSITIVE,
    ROPE_NEEDS,
    YES_OR_NO,
)
from engine.text import one_line
from recommender.facts import ModelFacts
from recommender.step import PEFTS_OWN, TrainingStep

MOST_SAID = 300
"""Characters of a reason: it may quote what the configuration says."""


class Cannot(Exception):
    """There is no prediction, and why."""

    def __init__(self, code: str, text: str, exit_code: int = 3) -> None:
        text = text if len(text) <= MOST_SAID else text[:MOST_SAID] + "…"
        super().__init__(text)
        self.code, self.text, self.exit_code = code, text, exit_code


def checked(model: ModelFacts) -> ModelFacts:
    """The model with a configuration that can be built from.

    Raises:
        Cannot: there is none, or it is not one of a known architecture, or its numbers cannot be meant.
    """
    config = model.config or _from_dimensions(model)
    _check_kind(config, model)
    for name in ("text_config", "id2label", "label2id"):
        if not isinstance(config.get(name) or {}, dict):
            raise Cannot("unusable", f"model.config: {name} is {config[name]!r}, and has to be an object.", 2)
    text = config.get("text_config") or {}
    filled, sizes = dict(config), {}
    for fact, (names, most) in LIMITS.items():
        found = [(n, source[n]) for source in (text, config) for n in names if n in source]
        if not found and getattr(model, fact) is not None:
            found = [(names[0], getattr(model, fact))]
            filled[names[0]] = found[0][1]
        if not found and fact == "layers" and isinstance(blocks := config.get("block_sizes"), list):
            found = [("block_sizes", sum(b for b in blocks if isinstance(b, int)))]
        if not found and text:  # such files leave out what their class has by itself
            continue
        if not found:
            raise Cannot("missing_number", f"model.config: {names[0]} is missing, and without it nothing can be predicted.", 2)
        name, value = found[0]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise Cannot("absurd_number", f"model.config: {name} is {value!r}; between 1 and {most:,} can be meant.", 2)
        sizes[fact] = value
    _check_optional(config | text, sizes)
    _check_values(config | text, sizes.get("vocabulary_size"))
    for source in (config, text):
        _check_rope(source, str(config["model_type"]))
    return model.model_copy(update={"config": filled})


def check_step(step: TrainingStep, config: dict[str, Any], head: str) -> None:
    """What the configuration alone shows to be impossible of a step.

    Raises:
        Cannot: naming it.
    """
    kind = str(config["model_type"])
    if not library.has_head(_kinds(config), head):
        raise Cannot("no_head", f"cannot predict: models of type {kind} have no {head} head in transformers.")
    if step.checkpointed and not library.recomputes(kind):
        said = f"gradient_checkpointing is {step.gradient_checkpointing}, and models of type {kind} have none in transformers"
        raise Cannot("contradiction", f"step: {said}.", 2)
    held = step.base_dtype or ("bfloat16" if step.adapters else "float32")
    if held != "float32" and step.autocast in (None, "float32") and library.only_in_fp32(kind):
        raise Cannot("contradiction", mixes(held), 2)
    most = library.positions(kind, config)
    if most is not None and step.length > most:
        raise Cannot("contradiction", f"step: length is {step.length}, and the model has positions for {most} tokens.", 2)
    targets = step.target_modules
    named = [t.strip() for t in targets.split(",")] if isinstance(targets, str) else targets
    words = named in (["all-linear"], [PEFTS_OWN])
    try:
        re.compile(targets if isinstance(targets, str) else "")
    except re.error as error:
        raise Cannot("contradiction", f"step.target_modules: {targets!r} is no pattern ({error}).", 2) from None
    if step.adapters and named and not words and all(t.replace(".", "").isidentifier() for t in named):
        instead = library.lacks(kind, named)
        if instead:
            said = f"models of type {kind} have no module named {' or '.join(named)}; their maps are {', '.join(instead)}"
            raise Cannot("contradiction", f"step.target_modules: {said}.", 2)


def mixes(dtype: str | None) -> str:
    """What is said of a model whose own code cannot be computed in that type."""
    wrong = f"the model's own code mixes {dtype} with another type, which ends the step on any device"
    return f"step: {wrong}; take base_dtype float32, with autocast if wanted."


def overflows(dtype: str) -> str:
    """What is said of a model whose own code marks what is not seen by a number that is too large for that type."""
    wrong = f"the model's own code fills scores of {dtype} with a number that {dtype} does not hold"
    return f"step: {wrong}, which ends the step on any device; train in float32 throughout, without autocast."


def _kinds(config: dict[str, Any]) -> list[str]:
    """The model's type, and that of the part that reads text."""
    inner = config.get("text_config")
    named = inner.get("model_type") if isinstance(inner, dict) else None
    return [str(config["model_type"]), *([str(named)] if named else [])]


def _check_kind(config: dict[str, Any], model: ModelFacts) -> None:
    """
    Raises:
        Cannot: such models are not predicted.
    """
    if model.weights_format == "gguf":
        raise Cannot("gguf", "cannot predict: GGUF weights cannot be trained; take the model as safetensors.")
    kind = config.get("model_type")
    if _own_code(config.get("auto_map")):
        raise Cannot("custom_code", "cannot predict: the model brings code of its own, which is never run; probe it instead.")
    if not kind or not isinstance(kind, str) or not library.is_known(kind):
        named = f"of type {one_line(repr(kind), 60)}" if kind else "without a model_type"
        raise Cannot("unknown_architecture", f"cannot predict: transformers has no model {named}; a real probe can measure it.")
    if not any(library.has_head(_kinds(config), head) for head in library.HEADS):
        raise Cannot("no_head", f"cannot predict: models of type {kind} have no head for text in transformers.")
    if library.hears(kind):
        raise Cannot("no_head", f"cannot predict: models of type {kind} read sound, and Loracle trains on text.")
    if any(library.attends_by_text(k) for k in _kinds(config)):
        said = "let some tokens of a text attend to all others, and keep more or less accordingly; a real probe can measure it"
        raise Cannot("unknown_kernels", f"cannot predict: models of type {kind} {said}.")
    if any(library.recurs(k) for k in _kinds(config)):
        said = "go through a text by a recurrence whose kernels are not in the table; a real probe can measure it"
        raise Cannot("unknown_kernels", f"cannot predict: models of type {kind} {said}.")


def _own_code(classes: Any) -> bool:
    """Whether a model needs code beside its weights. Many name the file that transformers has by now: that one is taken."""
    if not isinstance(classes, dict):
        return bool(classes)
    models = [v for name, v in classes.items() if name.startswith("AutoModel")]
    return not models or not all(isinstance(v, str) and library.kind_of(v.rpartition(".")[2]) for v in models)


def _check_optional(config: dict[str, Any], sizes: dict[str, int]) -> None:
    """Numbers that contradict each other or cannot be meant, before anything is imported.

    Raises:
        Cannot: naming them.
    """
    _check_limits(config)
    _check_sizes(config, sizes)
    many = _parameters(config, sizes)
    if many > MOST_PARAMETERS:
        said = f"these sizes make a model of about {many:.0e} parameters, which nobody has"
        raise Cannot("absurd_number", f"model.config: {said}.", 2)


def _check_limits(config: dict[str, Any]) -> None:
    for name, most in OPTIONAL:
        given, least = config.get(name), 0 if "experts" in name or name == "sliding_window" else 1
        each = given if isinstance(given, list) and name == "intermediate_size" else [given]  # Gemma 3n has one for each layer
        for value in each:
            if value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
                continue
            raise Cannot("absurd_number", f"model.config: {name} is {value!r}; between {least} and {most:,} can be meant.", 2)


def _check_sizes(config: dict[str, Any], sizes: dict[str, int]) -> None:
    kinds, layers = config.get("layer_types"), config.get("num_hidden_layers")
    if isinstance(kinds, list) and isinstance(layers, int) and len(kinds) != layers:
        said = f"layer_types names {len(kinds)} layers, and num_hidden_layers is {layers}"
        raise Cannot("contradiction", f"model.config: {said}.", 2)
    strange = [kind for kind in kinds if not library.has_layers(kind)] if isinstance(kinds, list) else []
    if strange:
        raise Cannot("unusable", f"model.config: layer_types names {strange[0]!r}, which transformers does not know.", 2)
    experts, each = (config.get(n) or 0 for n in ("num_local_experts", "num_experts_per_tok"))
    if each > experts > 0:
        said = f"num_experts_per_tok is {each}, and num_local_experts {experts}"
        raise Cannot("contradiction", f"model.config: {said}.", 2)
    hidden, heads = sizes.get("hidden_size", 0), sizes.get("attention_heads", 1)
    shared = config.get("num_key_value_heads")
    if shared is not None and "attention_heads" in sizes and heads % shared:
        said = f"num_key_value_heads is {shared}, and num_attention_heads, {heads}, is no multiple of it"
        raise Cannot("contradiction", f"model.config: {said}.", 2)
    if hidden % heads and not any(config.get(name) for name in ("head_dim", "d_kv", "qk_head_dim", "kv_lora_rank")):
        said = f"hidden_size is {hidden}, and no multiple of num_attention_heads, {heads}"
        raise Cannot("contradiction", f"model.config: {said}.", 2)


def _parameters(config: dict[str, Any], sizes: dict[str, int]) -> int:
    """About how many such a model has."""
    hidden = sizes.get("hidden_size", 0)
    width = next((config[n] for n in ("intermediate_size", "d_ff", "n_inner") if config.get(n)), 4 * hidden)
    wide = max((w or 0 for w in width), default=0) if isinstance(width, list) else width
    experts = next((int(config[n]) for n in ("num_local_experts", "num_experts", "n_routed_experts") if config.get(n)), 1)
    layers = sizes.get("layers", 1) * hidden * (4 * hidden + 3 * wide * experts)
    return int(layers + sizes.get("vocabulary_size", 1) * hidden)


def _check_values(config: dict[str, Any], words: int | None) -> None:
    """What transformers would only refuse once it is imported.

    Raises:
        Cannot: naming it.
    """
    for names, said in ((FRACTIONS, "between 0 and 1 can be meant"), (POSITIVE, "a number above 0 can be meant")):
        for name in names:
            value = config.get(name)
            right = _is_number(value) or (value == 0 and not isinstance(value, bool) and names is FRACTIONS)
            if value is None or isinstance(value, list | dict):  # some kinds have one for each layer
                continue
            if not (right and (names is POSITIVE or value <= 1)):
                raise Cannot("absurd_number", f"model.config: {name} is {value!r}; {said}.", 2)
    for name in YES_OR_NO:
        if not isinstance(config.get(name), bool | None):
            raise Cannot("unusable", f"model.config: {name} is {config[name]!r}; true or false can be meant.", 2)
    for name in ACTIVATIONS:
        value = config.get(name)
        if value is not None and library.lacks_activation(str(config["model_type"]), name, value):
            raise Cannot("unusable", f"model.config: {name} is {value!r}, which is no activation that transformers has.", 2)
    padding = config.get("pad_token_id")
    pads = library.embeds_padding(str(config["model_type"]))  # others only look the number up when they pad
    if pads and words is not None and isinstance(padding, int) and not -words <= padding < words:
        said = f"pad_token_id is {padding}, and the vocabulary has {words} words"
        raise Cannot("contradiction", f"model.config: {said}.", 2)


def _check_rope(config: dict[str, Any], kind: str) -> None:
    """How positions are turned, as old files (`rope_scaling`) and new ones (`rope_parameters`) say it.

    Raises:
        Cannot: transformers knows no such rotation, or it lacks a number.
    """
    for name in ("rope_scaling", "rope_parameters"):
        given = config.get(name)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise Cannot("unusable", f"model.config: {name} is {given!r}, and has to be an object with a rope_type.", 2)
        nested = [v for v in given.values() if isinstance(v, dict)]
        for one in nested or [given]:
            which = one.get("rope_type", one.get("type", "default"))
            known = library.rope_kinds(kind)
            if not isinstance(which, str) or (known and f'"{which}"' not in known):
                raise Cannot("unusable", f"model.config: {name} has the kind {which!r}, which transformers does not know.", 2)
            for needed in ROPE_NEEDS.get(which, ()):
                value = one.get(needed)
                right = isinstance(value, list) if needed.endswith(("short_factor", "long_factor")) else _is_number(value)
                if not right:
                    said = "is missing" if value is None else f"is {value!r}"
                    raise Cannot("unusable", f"model.config: {name} of the kind {which} needs {needed}, which {said}.", 2)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)


def _from_dimensions(model: ModelFacts) -> dict[str, Any]:
    """A configuration from the facts' own numbers, where the architecture's name says which kind it is."""
    kind = library.kind_of(model.architecture) if model.architecture else None
    if kind is None:
        said = "cannot predict: model.config (config.json) is not among the facts; `loracle inspect model ID --json` prints it."
        raise Cannot("no_config", said, 2)
    found: dict[str, Any] = {"model_type": kind, "architectures": [model.architecture], **AS_PUBLISHED.get(kind, {})}
    for fact, names in DIMENSIONS.items():
        value = getattr(model, fact)
        if value is not None:
            found |= dict.fromkeys(library.configured_as(kind, names), value)
    return found
