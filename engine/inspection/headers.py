"""The headers of safetensors files in a folder: found, bounded, checked, parsed. Of the weights no more than samples are read."""

import contextlib
import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.files import read_json
from engine.inspection.weights import BITS, Tensor, Weights
from engine.text import one_line
from recommender.errors import InputError

LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors library."""
LARGEST_INDEX = 50_000_000
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SAMPLES, SAMPLE = 64, 4096
"""Of a file, spread over it, and bytes of each: a fine-tune changes all weights, and to read those of 8B takes a minute."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file."""

    file: str
    """Its name without a folder."""
    where: str
    """How messages name it."""
    length: int
    """Bytes of the whole file."""
    raw: bytes


def read_weights(folder: Path) -> Weights:
    """What the headers of all weights in a model folder say.

    Raises:
        InputError: none, only pickled ones, a shard missing, or a damaged file.
    """
    return weights_of((_local(folder / name) for name in names_in(folder, lambda name: (folder / name).is_file())), str(folder))


def sampled(folder: Path) -> bytes:
    """A digest of samples of the weights in a folder that `read_weights` can read: others of the same shapes have another one."""
    digest = hashlib.sha256()
    for name in names_in(folder, lambda name: (folder / name).is_file()):
        with (folder / name).open("rb") as file:
            last = max(file.seek(0, os.SEEK_END) - SAMPLE, 0)
            for place in range(SAMPLES):
                file.seek(last * place // (SAMPLES - 1))
                digest.update(file.read(SAMPLE))
    return digest.digest()


def weights_of(headers: Iterable[Header], where: str) -> Weights:
    """The tensors that the headers of a model's files describe; `where` names the model in messages.

    Raises:
        InputError: a header is damaged, or there are no tensors.
    """
    tensors: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    size = 0
    for header in headers:
        for tensor in _tensors(header):
            tensors[tensor.name] = tensor
        digest.update(f"{header.file}\n{header.length}\n".encode())
        digest.update(header.raw)
        size += header.length
    if not tensors:
        raise InputError(f"{where}: the safetensors file holds no tensors; download the model again.")
    return Weights(tuple(tensors.values()), size, digest.digest())


def an_adapter(folder: Path) -> str:
    """What to say of a folder that holds an adapter: which model to give instead."""
    base = None
    with contextlib.suppress(OSError, ValueError):
        read = read_json(folder / "adapter_config.json")
        base = read.get("base_model_name_or_path") if isinstance(read, dict) else None
    if not isinstance(base, str) or not base:
        return f"{folder} holds an adapter, not a model; give the base model it was trained on."
    run = folder.parent if (folder.parent / "plan.yaml").is_file() else "RUN"
    return (
        f"{folder} holds an adapter, not a model; give the one it was trained on (--model {one_line(base, 200)}), or merge "
        f"the two: `loracle merge {run}` does so for a finished run."
    )


def names_in(folder: Path, there: Callable[[str], bool]) -> list[str]:
    """Names of the weight files of the model in `folder`; `there` tells whether one exists, on the disk or on the hub.

    Raises:
        InputError: none, only pickled ones, a shard missing, or an index that is none.
    """
    if there(SINGLE):
        return [SINGLE]
    if there(INDEX):
        return _shards(folder, folder / INDEX, there)
    other = sorted(p.name for p in folder.glob("*.safetensors"))
    if other == ["adapter_model.safetensors"]:
        raise InputError(an_adapter(folder))
    if other:
        raise InputError(
            f"{folder}: holds {one_line(other[0])} but neither {SINGLE} nor {INDEX};"
            " rename it, or get the model in the usual layout."
        )
    pickled = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    if pickled:
        raise InputError(
            f"{folder}: its weights are pickled ({one_line(pickled[0])}), and a pickle can run code; convert them to "
            "safetensors (save_pretrained does) and try again."
        )
    raise InputError(f"{folder}: has a config.json but no weights; {SINGLE} is missing.")


def _shards(folder: Path, index: Path, there: Callable[[str], bool]) -> list[str]:
    with index.open("rb") as file:
        raw = file.read(LARGEST_INDEX + 1)
    try:
        names = sorted(set(json.loads(raw)["weight_map"].values())) if len(raw) <= LARGEST_INDEX else []
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        names = []
    if not names or not all(isinstance(n, str) for n in names):
        raise InputError(f"{index}: is damaged (it lists no weight files); download the model again.")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index}: names {one_line(name, 80)}, which is not a safetensors file beside it.")
    missing = [n for n in names if not there(n)]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(names)} weight files are missing, first {one_line(missing[0], 80)};"
            " finish the download."
        )
    return names


def _local(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as file:
        return Header(path.name, str(path), size, file.read(header_length(file.read(8), size, str(path))))


def header_length(head: bytes, size: int, where: str) -> int:
    """Bytes of the header that follows the first eight bytes `head` of a file of `size` bytes.

    Raises:
        InputError: there is none, or it cannot be that long.
    """
    if head.startswith(b"version "):
        raise InputError(f"{where}: is a Git LFS pointer, not the weights; run `git lfs pull` in that folder.")
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
    if not 2 <= length <= min(size - 8, LARGEST_HEADER):
        raise _damaged(where, "its header is longer than the file" if length > size - 8 >= 0 else "it has no header")
    return int(length)


def _tensors(file: Header) -> list[Tensor]:
    where, space = file.where, file.length - 8 - len(file.raw)
    try:
        header: Any = json.loads(file.raw)
    except (ValueError, RecursionError):
        raise _damaged(where, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(where, "its header is no list of tensors")
    header.pop("__metadata__", None)
    found: list[Tensor] = []
    end = 0
    for name, entry in header.items():
        try:
            dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            bits = BITS[dtype]
        except (TypeError, KeyError, ValueError):
            raise _damaged(where, f"tensor {one_line(name, 80)} is described in an unknown way") from None
        whole = all(type(n) is int and n >= 0 for n in (*shape, first, last))
        if not whole or last - first != math.prod(shape) * bits // 8:
            raise _damaged(where, f"size and shape of tensor {one_line(name, 80)} do not agree")
        end = max(end, last)
        found.append(Tensor(name, dtype, shape, last - first))
    if end != space:
        missing = "; the download was cut short" if end > space else ""
        raise _damaged(where, f"it should hold {end} bytes of weights and holds {space}{missing}")
    return found


def _damaged(where: str, why: str) -> InputError:
    return InputError(f"{where}: damaged safetensors file ({why}); download it again.")
