"""Files of weights that are a hole in the disk, and what is found out about a model."""

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from engine.inspection.model import inspect_folder
from recommender.errors import Exit, InputError
from recommender.facts import ModelFacts

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "U8": 1, "I8": 1, "I64": 8, "I32": 4, "F8_E4M3": 1}
Shapes = dict[str, tuple[str, list[int]]]


def weights(path: Path, tensors: Shapes) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        size = SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)


def facts_of(path: Path, name: str | None = None) -> ModelFacts:
    return ModelFacts.model_validate(inspect_folder(str(path), name)["facts"])


def complaint(path: Path) -> str:
    """Why it is no model: one line that names the place."""
    with pytest.raises(InputError) as caught:
        inspect_folder(str(path))
    assert caught.value.exit == Exit.USAGE
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message
