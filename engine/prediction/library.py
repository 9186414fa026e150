"""What transformers has, read from the text of its files: importing them takes seconds, and wrong words are refused at once."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

from engine.files import text_in

HEADS = {
    "causal_lm": ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM"),
    "classification": ("SEQUENCE_CLASSIFICATION",),
    "tagging": ("TOKEN_CLASSIFICATION",),
    "masked_lm": ("MASKED_LM",),
    "seq2seq": ("SEQ_TO_SEQ_CAUSAL_LM",),
}
"""By head, the tables that name the models with it."""
_RECURRENT = re.compile(r"selective_scan|selective_state_update|rwkv_linear_attention|gated_delta_rule|mlstm|rg_lru")
"""Names of kernels that go through a text place by place; without the kernels' packages the same is a loop over the places."""
_POSITIONS = re.compile(r"Embedding\(\s*(?:self\.)?config\.(?:max_position_embeddings|n_positions)")
_SHIFTED = re.compile(r"padding_idx \+ 1|create_position_ids_from_input")
_FP32_BIAS = re.compile(r"self\.[qkv]_bias = nn\.Parameter\([^\n]*dtype=torch\.float\)")
_MODULE = re.compile(r"self\.(\w+)\s*(?::[^=\n]+)?=[^=]")
_FROM_ANOTHER = re.compile(r"from \.\.(\w+)\.modeling_\w+ import")


@cache
def _folder() -> Path:
    spec = importlib.util.find_spec("transformers")
    return Path(spec.origin).parent / "models" if spec is not None and spec.origin else Path()


@cache
def _text(*parts: str) -> str:
    """Of a file below `transformers/models`; empty where there is none."""
    return text_in(_folder().joinpath(*parts))


def is_known(kind: str) -> bool:
    """Whether there are models of that type."""
    tables = _text("auto", "auto_mappings.py") + _text("auto", "configuration_auto.py")
    return not tables or f'"{kind}"' in tables


def kind_of(architecture: str) -> str | None:
    """The type of models of that class; of several the one that it is named after, as others borrow it."""
    known = rf'\("([\w-]+)", "{re.escape(architecture)}"\)'  # the code that came with some wrote their names in capitals
    found = re.findall(known, _text("auto", "modeling_auto.py"), re.IGNORECASE)
    named = [kind for kind in found if architecture.lower().startswith(re.sub(r"\W|_", "", kind))]
    return max(named, key=len) if named else found[0] if found else None


def has_head(kinds: list[str], head: str) -> bool:
    """Whether models of one of these types have that head (`HEADS`)."""
    whole = _text("auto", "modeling_auto.py")
    tables = [re.search(rf"MODEL_FOR_{name}_MAPPING_NAMES = (.*?)\n\)", whole, re.DOTALL) for name in HEADS[head]]
    return any(t is None or any(f'("{kind}"' in t[1] for kind in kinds) for t in tables)


def configured_as(kind: str, names: tuple[str, ...]) -> list[str]:
    """Which of the names for a number configurations of that type know; the first where none is found."""
    whole = _of(kind, "configuration")
    return [n for n in names if re.search(rf"\b{n}\b", whole)] or list(names[:1])


def classes_of(config: dict[str, Any]) -> list[str]:
    """The names of the classes that a configuration says it is for."""
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def writes_from_texts(config: dict[str, Any]) -> bool:
    """Whether such a model reads with one half and writes with the other."""
    alone = config.get("is_encoder_decoder") is False or any("CausalLM" in name for name in classes_of(config))
    return not alone and has_head([str(config.get("model_type"))], "seq2seq")


@cache
def _modeling(kind: str) -> str:
    """The file of the models of a type, and those that it takes parts from."""
    whole = _of(kind, "modeling")
    return whole + "".join(_text(other, f"modeling_{other}.py") for other in sorted(set(_FROM_ANOTHER.findall(whole))))


@cache
def _of(kind: str, part: str) -> str:
    """The file that says a `part` of the models of a type (`modeling`, `configuration`); some types' folder has another name."""
    table = re.search(r"SPECIAL_MODEL_TYPE_TO_MODULE_NAME = .*?\n\)", _text("auto", "auto_mappings.py"), re.DOTALL)
    special = re.search(rf'"{re.escape(kind)}",? ?:? ?"(\w+)"', table[0]) if table else None
    name = special[1] if special else kind.replace("-", "_")
    return _text(name, f"{part}_{name}.py")


def recurs(kind: str) -> bool:
    """Whether such models go through a text by a recurrence with kernels of its own."""
    return _RECURRENT.search(_modeling(kind)) is not None


def attends_by_text(kind: str) -> bool:
    """Whether what such models keep depends on which of a text's tokens attend to all others."""
    return "is_global_attn" in _modeling(kind)


def recomputes(kind: str) -> bool:
    """Whether layers of such models can be computed again in the backward pass."""
    whole = _modeling(kind)
    return not whole or "AutoModel" in whole or "supports_gradient_checkpointing = True" in whole


def lacks_activation(kind: str, name: str, value: Any) -> bool:
    """Whether such models take the activation of their maps by that name from transformers' table, which has none called so."""
    if f"ACT2FN[config.{name}]" not in _modeling(kind):
        return False
    table = re.search(r"ACT2CLS = \{(.*?)\n\}", text_in(_folder().parent / "activations.py"), re.DOTALL)
    return table is not None and (not isinstance(value, str) or f'\n    "{value}":' not in table[1])


def embeds_padding(kind: str) -> bool:
    """Whether embeddings of such models are told which word is the padding, so that it has to be one of theirs."""
    return "padding_idx" in _modeling(kind)


def only_in_fp32(kind: str) -> bool:
    """Whether attention of such models adds biases that stay in fp32 however they are loaded, so that 16 bit ends in an error."""
    return _FP32_BIAS.search(_modeling(kind)) is not None


def hears(kind: str) -> bool:
    """Whether such models read sound."""
    table = re.search(r"MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES = (.*?)\n\)", _text("auto", "modeling_auto.py"), re.DOTALL)
    return table is not None and f'("{kind}"' in table[1]


def lacks(kind: str, modules: list[str]) -> list[str]:
    """The maps that such models have instead, where they have no module of these names; empty where they have one, or may."""
    whole = _modeling(kind)
    if not whole or "AutoModel" in whole:  # a part is a model of another type
        return []
    names = set(_MODULE.findall(whole))
    if any((last := m.rpartition(".")[2]) in names or last.isdigit() for m in modules):
        return []
    return list(dict.fromkeys(re.findall(r"self\.(\w+)\s*=\s*(?:nn\.Linear|Conv1D|\w*Linear)\(", whole)))


def positions(kind: str, config: dict[str, Any]) -> int | None:
    """Tokens that such a model has positions for; `None` where it counts distances instead, or where it is not known."""
    found = (config[n] for n in ("max_position_embeddings", "n_positions") if isinstance(config.get(n), int))
    most: int | None = next(found, None)
    whole = _of(kind, "modeling")
    if most is None or config.get("position_biased_input") is False or not _POSITIONS.search(whole):
        return None
    padding = config.get("pad_token_id", 1)
    return most - padding - 1 if _SHIFTED.search(whole) and isinstance(padding, int) and 0 <= padding < most else most


def has_layers(kind: Any) -> bool:
    """Whether a model's layers may be called that (`full_attention`, ...)."""
    known = text_in(_folder().parent / "configuration_utils.py")
    return isinstance(kind, str) and (not known or f'"{kind}"' in known)


def rope_kinds(kind: str) -> str:
    """Text in which every kind of rotation that such models know stands in quotes; empty where it is not known."""
    usual = text_in(_folder().parent / "modeling_rope_utils.py")
    return usual and usual + _of(kind, "configuration") + _of(kind, "modeling")
