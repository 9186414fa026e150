"""What a config says about weights that are already quantised."""

import re
from typing import Any

from engine.text import one_line

_FOUR_BITS = frozenset({"mxfp4", "awq", "gptq"})
"""Methods whose checkpoints usually are, where the config names no number."""


def _settings(config: dict[str, Any]) -> dict[str, Any] | None:
    found = config.get("quantization_config", config.get("compression_config"))
    return found if isinstance(found, dict) else None


def method_of(config: dict[str, Any]) -> str | None:
    """The method as the config names it (`gptq`, `awq`, `bitsandbytes`, `fp8`, `mxfp4`, ...); `None` when unquantised."""
    settings = _settings(config)
    if settings is None:
        return None
    method = settings.get("quant_method")
    return one_line(method, 40) if isinstance(method, str) else "unknown"


def bits_of(config: dict[str, Any]) -> int | None:
    """Bits of one weight of a quantised layer; `None` when nothing is quantised, 8 when the config does not tell."""
    settings, method = _settings(config), method_of(config)
    if settings is None or method is None:
        return None
    if settings.get("load_in_4bit") is True:
        return 4
    named = [settings.get(name) for name in ("bits", "w_bit", "nbits", "weight_bits", "num_bits")]
    groups = settings.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        named.append(weights.get("num_bits") if isinstance(weights, dict) else None)
    nested = settings.get("quant_config")
    inside = nested.get("weight_quant_params") if isinstance(nested, dict) else None
    named.append(inside.get("nbits") if isinstance(inside, dict) else None)  # hqq's
    found = next((bits for bits in named if type(bits) is int and 1 <= bits <= 8), None)
    if found is not None:
        return found
    # torchao, modelopt and quanto write the type into a word: Int8DynamicActivationInt4WeightConfig, W4A16_AWQ, NVFP4, qint2.
    words = " ".join(str(settings.get(name)) for name in ("quant_algo", "quant_type", "weights"))
    for pattern in (r"(?:int|float|fp)([1-8])_?weight", r"(?<![a-z])w([1-8])a\d", r"(?:int|float|fp)([1-8])(?![0-9])"):
        written = re.search(pattern, words, re.IGNORECASE)
        if written:
            return int(written.group(1))
    return 2 if method == "bitnet" else 4 if method.lower() in _FOUR_BITS else 8
