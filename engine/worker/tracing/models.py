"""Models without weights: the real class on the meta device, with adapters; `four_bit.py` makes its maps 4-bit."""

import contextlib
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import _disable_current_modes
from transformers import AutoConfig
from transformers.initialization import no_init_weights

from engine.prediction.config_names import LIMITS
from engine.text import first_line
from engine.worker.adapters import of_experts
from engine.worker.tracing.live import Marks
from recommender.errors import InputError, Refused
from recommender.step import PEFTS_OWN, TrainingStep

CLASSES = {
    "causal_lm": "AutoModelForCausalLM",
    "classification": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "masked_lm": "AutoModelForMaskedLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
ADAPTED_AS = {
    "causal_lm": "CAUSAL_LM",
    "classification": "SEQ_CLS",
    "tagging": "TOKEN_CLS",
    "masked_lm": None,
    "seq2seq": "SEQ_2_SEQ_LM",
}
NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types of adapters that peft makes fp32 unless it is told not to."""


def config_of(content: dict[str, Any], *, layers: int | None = None, labels: int | None = None) -> Any:
    """A configuration as transformers reads it, with another depth where `layers` is given.

    Raises:
        Refused: its architecture is not one that transformers has.
        InputError: transformers does not take its values.
    """
    content = {k: v for k, v in content.items() if k not in ("quantization_config", "auto_map", "torch_dtype", "dtype")}
    kind = str(content.pop("model_type", ""))
    if labels is not None:
        content.pop("id2label", None)
        content.pop("label2id", None)
        content["num_labels"] = labels
    try:
        config = AutoConfig.for_model(kind, **content)
    except ValueError as error:
        if "Unrecognized model identifier" in str(error):
            raise Refused(f"cannot predict: transformers has no models of type {kind!r}.") from None
        raise InputError(f"model.config: {first_line(error)}") from None
    except Exception as error:  # strict validation of a configuration raises what it likes
        said = re.sub(r"^(Class v|V)alidation error for .*?: \w+Error: |\. Errors: .*", "", first_line(error))
        raise InputError(f"model.config: {said.rstrip('.')}.") from None
    _check_names(content, config, kind)
    text = config.get_text_config()
    known = (transformers.AutoModelForCausalLM, transformers.AutoModelForSeq2SeqLM)
    if text is not config and all(type(config) not in auto._model_mapping for auto in known):
        config = text
    config.use_cache = False
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = 0
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id
    return config if layers is None else at_depth(config, layers)


def _check_names(content: dict[str, Any], config: Any, kind: str) -> None:
    """
    Raises:
        InputError: a number has a name that transformers passes over, so that the model would be another one.
    """
    inner = content.get("text_config")
    given = inner if isinstance(inner, dict) else content
    text = config.get_text_config()
    for fact, (names, _) in LIMITS.items():
        name = next((n for n in names if n in given), None)
        taken = getattr(text, names[0], None)
        if name is None or taken is None or (fact == "layers" and config.is_encoder_decoder):
            continue
        if taken != given[name]:
            said = f"{name} is {given[name]}, and transformers, which knows no {name} of models of type {kind}, takes {taken}"
            raise InputError(f"model.config: {said}.")


def depth_of(config: Any) -> int:
    """How many layers the configuration says."""
    return int(config.get_text_config().num_hidden_layers)


def at_depth(config: Any, layers: int) -> Any:
    """The same configuration with that many layers."""
    text = config.get_text_config()
    for name, each in list(vars(text).items()):
        if isinstance(each, list) and len(each) == depth_of(config) > layers:  # a value for each layer
            kept = each[:layers]
            if name == "layer_types" and set(kept) != set(each):  # what a kind has once for all layers is there as well
                kept[-1] = next(kind for kind in each if kind not in kept)
            setattr(text, name, kept)
    for name in ("num_hidden_layers", "num_decoder_layers", "decoder_layers"):
        if hasattr(text, name):
            setattr(text, name, layers)
    return config


TWO_HALVES = {"t5", "mt5", "bart", "mbart", "pegasus", "marian", "m2m_100", "blenderbot", "blenderbot-small", "plbart", "mvp"}
"""Encoder-decoders whose halves have layers of one kind each."""
ATTENDING = {"full_attention", "sliding_attention"}
"""Kinds of layers that differ only in what lies outside of a window."""


def kinds_of(config: Any) -> list[str]:
    """Of its layers, where it has several."""
    return getattr(config.get_text_config(), "layer_types", None) or []


def extendable(config: Any, length: int, *, windows_alike: bool = False) -> bool:
    """Whether all layers do alike with texts of that length, so that two depths tell all others; with `windows_alike` those
    that look through a window keep what the others keep."""
    text = config.get_text_config()
    kinds = set(kinds_of(config))
    if kinds == ATTENDING and (windows_alike or length < (getattr(text, "sliding_window", None) or 0)):
        kinds = set()
    uneven = ("mlp_layer_types", "first_k_dense_replace", "no_rope_layers", "block_sizes")
    sparse = any(getattr(text, name, None) for name in uneven)
    return len(kinds) <= 1 and not sparse and (not getattr(config, "is_encoder_decoder", False) or _halves_alike(config))


def _halves_alike(config: Any) -> bool:
    """Whether both halves of an encoder-decoder are as deep, so that each grows by a layer at the next depth."""
    depths = {getattr(config, name, depth_of(config)) for name in ("num_decoder_layers", "decoder_layers", "encoder_layers")}
    return config.model_type in TWO_HALVES and len(depths) == 1


def only_eager(config: Any) -> bool:
    """Whether such models write attention out whatever is asked for: SDPA knows no cap of scores, as Gemma 2 has."""
    made = transformers.AutoModel._model_mapping.get(type(config), None)
    return not getattr(made, "_supports_sdpa", True)


def skeleton(config: Any, head: str, dtype: torch.dtype, attention: str, device: str = "meta") -> Any:
    """The model with that head, without a trace of its making: no memory is counted for it."""
    with _disable_current_modes():
        return empty_model(config, head, dtype, attention, device)


def loaded(config: Any, head: str, dtype: torch.dtype, attention: str, device: str = "meta") -> Any:
    """The model as `from_pretrained` leaves it on the device: a tensor after the other, what is tied only once."""
    if device != "meta":
        return empty_model(config, head, dtype, attention, device)
    model = skeleton(config, head, dtype, attention)
    for parameter in model.parameters():
        parameter.data = memory_like(parameter, device)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer)
    return model


def empty_model(config: Any, head: str, dtype: torch.dtype, attention: str, device: str = "meta") -> Any:
    """The model with that head and without weights; on a real device they are random.

    Raises:
        Refused: such models have no such head, or need code of their own.
    """
    auto = getattr(transformers, CLASSES[head])
    if type(config) not in auto._model_mapping:
        raise Refused(f"cannot predict: models of type {config.model_type} have no {head} head in transformers.")
    try:
        with torch.device(device), no_init_weights() if device == "meta" else contextlib.nullcontext():
            model = auto.from_config(config, dtype=dtype, attn_implementation=attention)
        model.to(device)  # `torch.FloatTensor(...)` makes tensors where it likes
        model.tie_weights()  # left out with the values
        wide = tuple(model._get_dtype_plan(dtype))  # which `from_config` passes over, and `from_pretrained` does not
        for name, p in model.named_parameters() if wide else ():
            if any(part in name for part in wide):  # anywhere in it, as there
                p.data = p.data.float()
        return model
    except ValueError as error:
        if attention == "eager" or ("attn" not in str(error).lower() and "sdpa" not in str(error).lower()):
            raise
        return empty_model(config, head, dtype, "eager", device)


def memory_like(parameter: torch.Tensor, device: str) -> torch.Tensor:
    """Memory of its own; `empty_like` would have the skeleton's counted too. Not zeros on a real device."""
    return torch.empty(parameter.shape, dtype=parameter.dtype, device=device).normal_(std=0.02)


def adapted(model: Any, step: TrainingStep, head: str, *, live: Marks, device: str = "meta") -> Any:
    """The model as an ordinary script prepares it with peft.

    Raises:
        InputError: peft does not take the target modules.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    model = _prepared_for_adapters(model, step, live=live, device=device)
    kind = ADAPTED_AS[head]
    heads = [n for n in fresh_modules(model, head) if n.endswith(("classifier", "score"))]  # which peft trains by itself
    apart = 0.0 if step.fused_experts else _dropped_beside_experts(model, step)
    config = LoraConfig(
        task_type=TaskType[kind] if kind else None,
        r=step.rank or 16,
        lora_alpha=32,
        lora_dropout=0.0 if apart else step.lora_dropout or 0.0,
        use_dora=bool(step.dora),
        target_modules=_targets(step),
        modules_to_save=[*heads, *(step.trained or ())] or None,
    )
    try:
        with torch.device(device):
            made = get_peft_model(model, config, autocast_adapter_dtype=step.adapter_dtype not in NARROW)
    except ValueError as error:
        raise of_experts(error) or InputError(f"step.target_modules {step.target_modules!r}: {first_line(error)}") from None
    except TypeError as error:  # a list of modules, as all layers are
        raise InputError(f"step.trained {step.trained!r}: {first_line(error)}") from None
    if apart:
        _drop_beside_maps(made, apart)
    wanted = NARROW.get(step.adapter_dtype or "")
    for name, p in made.named_parameters() if wanted is not None else ():
        if "lora_" in name and p.dtype != wanted:
            p.data = p.data.to(wanted)
    return made


def _prepared_for_adapters(model: Any, step: TrainingStep, *, live: Marks, device: str) -> Any:
    """As scripts leave the model before adapters: prepared for k-bit training, or with checkpointing switched on."""
    from peft import prepare_model_for_kbit_training

    checkpointing = {"use_reentrant": False}
    if step.kbit_prepared:
        live.phase("load prepare")
        with torch.device(device), _experts_aside(model, step):
            model = prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=step.checkpointed, gradient_checkpointing_kwargs=checkpointing
            )
        live.empty_cache()  # peft does since 0.18
        live.phase("load adapters")
    elif step.checkpointed:
        model.gradient_checkpointing_enable(checkpointing)
        model.enable_input_require_grads()
    return model


def _targets(step: TrainingStep) -> str | list[str] | None:
    """As peft reads them: a list, `all-linear` or a pattern; `None` are its own for such models."""
    targets = step.target_modules or "all-linear"
    if targets == PEFTS_OWN:
        return None
    if isinstance(targets, list) or targets == "all-linear" or set(targets) & set("*|()[]^$+\\?"):
        return targets
    return [t.strip() for t in targets.split(",")]


def _dropped_beside_experts(model: Any, step: TrainingStep) -> float:
    """The dropout of adapters of a model whose experts are one weight in the installed transformers, and were maps of their own
    when such steps were measured: peft has none for adapters of one weight, so that theirs are counted without."""
    fused = any("Experts" in type(m).__name__ and any(p.dim() == 3 for p in m.parameters(recurse=False)) for m in model.modules())
    return (step.lora_dropout or 0.0) if fused else 0.0


def _drop_beside_maps(model: Any, dropout: float) -> None:
    """Give dropout to all adapters but those of experts that are one weight."""
    from peft.tuners.lora.layer import LoraLayer, ParamWrapper

    for module in model.modules():
        if isinstance(module, LoraLayer) and not isinstance(module, ParamWrapper):
            module.lora_dropout["default"] = torch.nn.Dropout(dropout)


@contextlib.contextmanager
def _experts_aside(model: Any, step: TrainingStep) -> Iterator[None]:
    """Experts that stand for maps in 4 bit, which the k-bit preparation leaves as they are; without autocast fused ones would not
    take what comes to them then."""
    aside = [] if step.fused_experts or not step.autocast else [
        (module, name, weight) for module in model.modules() for name, weight in module._parameters.items()
        if weight is not None and weight.dim() == 3 and "Experts" in type(module).__name__
    ]  # fmt: skip
    for module, name, weight in aside:
        weight.requires_grad_(False)
        del module._parameters[name]
    yield
    for module, name, weight in aside:
        module.register_parameter(name, weight)


def fresh_modules(model: Any, head: str) -> list[str]:
    """Names of the modules that start from random weights: a head for labels; a language model brings its own."""
    if head not in ("classification", "tagging"):
        return []
    prefix = model.base_model_prefix
    return [name for name, module in model.named_children() if name != prefix and any(True for _ in module.parameters())]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the libraries' advice about models that are never going to be used."""
    logging = import_module("transformers.utils.logging")
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
