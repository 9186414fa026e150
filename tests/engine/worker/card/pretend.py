"""A pretended CUDA card for torch's build for CPUs, with real values: `begin` before anything has imported torch.

Not shown by it: speed, errors that come late, fragmentation, the kernels' own rounding, Triton.
"""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GIB = 2**30
CONTEXT = GIB // 2
"""What the driver takes for a process."""
CARD = SimpleNamespace(
    name="NVIDIA GeForce RTX 4090", major=8, minor=9, total_memory=24 * GIB, multi_processor_count=128, warp_size=32,
    uuid="GPU-12345678-0000-0000-0000-000000000000", regs_per_multiprocessor=65536, max_threads_per_multi_processor=1536,
    shared_memory_per_multiprocessor=102400, L2_cache_size=72 * 2**20, gcnArchName="", is_integrated=0, is_multi_gpu_board=0,
)  # fmt: skip
BY_HAND = {
    "aten::empty.memory_format", "aten::empty_strided", "aten::_fused_sdp_choice", "aten::_softmax.out", "aten::_log_softmax.out",
}  # fmt: skip
SOURCE = Path(__file__).with_name("card.cpp")


def lacking() -> str | None:
    """What is not here to build the card, in a sentence."""
    if not shutil.which("c++"):
        return "The pretended card needs a C++ compiler (c++), so nothing was tested."
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "The pretended card needs Python's headers (python3-dev), so nothing was tested."
    return None


def built(folder: Path) -> Path:
    """The card's library for this torch. Without torch's own builder, whose import of torch would be too early."""
    made_of = [SOURCE.read_text(), version("torch"), sys.version, sys.prefix]
    library = folder / hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16] / "_card.so"
    if not library.exists():
        spec = importlib.util.find_spec("torch")
        assert spec is not None
        assert spec.submodule_search_locations
        torch = Path(spec.submodule_search_locations[0])
        library.parent.mkdir(parents=True, exist_ok=True)
        includes = [torch / "include", torch / "include/torch/csrc/api/include", sysconfig.get_path("include")]
        new = library.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["c++", "-O1", "-std=c++20", "-fPIC", "-shared", "-w", "-DTORCH_EXTENSION_NAME=_card",
             "-DTORCH_API_INCLUDE_EXTENSION_H", *(f"-I{place}" for place in includes), str(SOURCE), "-o", str(new),
             f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu", "-ltorch_python", "-lc10", f"-Wl,-rpath,{torch / 'lib'}"],
            check=True,
        )  # fmt: skip
        new.rename(library)
    return library


def begin(library: Path) -> Any:
    """From now on this process has the card; its memory is read and limited by what is returned."""
    assert "torch" not in sys.modules, "torch has asked for a card already"
    ctypes.CDLL(str(library))
    import bitsandbytes  # noqa: F401  # before there is a card: it would want its library for CUDA
    import torch.nn.attention.varlen  # registers its operations

    spec = importlib.util.spec_from_file_location("_card", library)
    assert spec is not None
    assert spec.loader is not None
    card: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(card)
    assert card.begin()
    card.limit(CARD.total_memory - CONTEXT)

    from tests.engine.worker.card import attention

    by_hand = BY_HAND | attention.register()
    card.take_over("aten", by_hand)
    card.take_over("bitsandbytes", set())
    import engine.worker.dropout  # noqa: F401  # has operations of its own

    card.take_over("loracle", set())
    _cuda(torch, card)
    _bindings(torch)
    _storages(torch)
    _paged_memory(torch)
    return card


class _Null(contextlib.nullcontext[None]):
    def __init__(self, *_args: Any, **_options: Any) -> None:
        super().__init__()


class _Stream:
    """A stream or an event: all is done when it is asked for."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.cuda_stream = self.device_index = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: {"query": True, "elapsed_time": 0.0, "record_event": self}.get(name)


def _cuda(torch: Any, card: Any) -> None:
    """torch.cuda: chance and memory are the card's own, the rest is as on a machine with one device."""
    chance, memory = card.default_generator(), card.memory

    def statistics(*_: Any, **__: Any) -> dict[str, int]:
        names = (f"{kind}_bytes.all.{which}" for kind in ("allocated", "reserved") for which in ("current", "peak"))
        return dict(zip(names, memory(), strict=True)) | {"num_ooms": 0}

    def state(_device: Any = None) -> Any:
        return chance.get_state()

    def set_state(saved: Any, _device: Any = None) -> None:
        if saved.device.type != "cpu" or saved.dtype != torch.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        chance.set_state(saved.clone())

    def seed(number: int) -> None:
        chance.manual_seed(int(number))

    def constant(value: Any) -> Any:
        return lambda *_, **__: value

    random = {
        "get_rng_state": state, "set_rng_state": set_state, "get_rng_state_all": lambda: [state()],
        "set_rng_state_all": lambda states: set_state(states[0]), "manual_seed": seed, "manual_seed_all": seed,
        "seed": chance.seed, "seed_all": chance.seed, "initial_seed": chance.initial_seed,
    }  # fmt: skip
    numbers = {
        "empty_cache": card.empty_cache, "memory_stats": statistics,
        "mem_get_info": lambda _device=None: (max(CARD.total_memory - CONTEXT - memory()[2], 0), CARD.total_memory),
        "set_per_process_memory_fraction": lambda share, _device=None: card.limit(int(share * CARD.total_memory)),
        "reset_peak_memory_stats": lambda _device=None: card.reset_peak(),
        "memory_allocated": lambda _device=None: memory()[0], "max_memory_allocated": lambda _device=None: memory()[1],
        "memory_reserved": lambda _device=None: memory()[2], "max_memory_reserved": lambda _device=None: memory()[3],
    }  # fmt: skip
    device = {
        "is_available": constant(True), "is_initialized": constant(True), "device_count": constant(1),
        "current_device": constant(0), "_is_compiled": constant(True), "_lazy_init": constant(None), "init": constant(None),
        "_is_in_bad_fork": constant(False),
        "_lazy_call": lambda does, **_: does(), "get_device_name": constant(CARD.name), "get_device_properties": constant(CARD),
        "get_device_capability": constant((CARD.major, CARD.minor)), "is_bf16_supported": constant(True),
        "set_device": constant(None), "synchronize": constant(None), "device": _Null, "device_of": _Null,
        "stream": _Null, "Stream": _Stream, "Event": _Stream,
        "current_stream": _Stream, "default_stream": _Stream, "is_current_stream_capturing": constant(False),
        "get_arch_list": constant(["sm_80", "sm_90"]), "default_generators": (chance,), "_initialized": True,
    }  # fmt: skip
    for place, names in (
        (torch.cuda, random | numbers | device), (torch.cuda.random, random), (torch.cuda.memory, numbers),
    ):  # fmt: skip
        for name, value in names.items():
            setattr(place, name, value)


def _bindings(torch: Any) -> None:
    """What a build for CUDA has in C++ besides."""
    torch.version.cuda = "13.0"
    torch.backends.cuda.is_built = lambda: True
    for name, value in {
        "_cuda_getDeviceCount": 1, "_cuda_getDevice": 0, "_cuda_setDevice": None, "_cuda_exchangeDevice": 0,
        "_cuda_maybeExchangeDevice": 0, "_cuda_isInBadFork": False, "_cuda_init": None, "_cuda_getCurrentRawStream": 0,
        "_cuda_getCompiledVersion": 13000,
    }.items():  # fmt: skip
        setattr(torch._C, name, lambda *_, value=value: value)

    def flash(params: Any, _debug: bool = False) -> bool:
        halves = (torch.float16, torch.bfloat16)
        return params.query.dtype in halves and params.attn_mask is None and params.query.shape[-1] <= 256

    def efficient(params: Any, _debug: bool = False) -> bool:
        return not (params.enable_gqa and params.query.shape[-3] != params.key.shape[-3])

    torch._C._can_use_flash_attention, torch._C._can_use_mem_efficient_attention = flash, efficient
    torch._C._can_use_cudnn_attention = lambda *_: False


def _storages(torch: Any) -> None:
    """How checkpoints are read: bytes of one device moved or copied to another."""
    usual_to, usual_clone = torch._utils._to, torch.UntypedStorage.clone

    def on_the_card(storage: Any) -> Any:
        return torch.empty(storage.nbytes(), dtype=torch.uint8, device="cuda").untyped_storage().copy_(storage)

    def to(storage: Any, device: Any, non_blocking: bool = False) -> Any:
        arrives = torch.device(device).type == "cuda" and storage.device.type != "cuda"
        return on_the_card(storage) if arrives else usual_to(storage, device, non_blocking)

    torch._utils._to = torch.storage._to = to
    torch.UntypedStorage.clone = lambda storage: (on_the_card if storage.device.type == "cuda" else usual_clone)(storage)


def _paged_memory(torch: Any) -> None:
    """What bitsandbytes keeps in main memory, as the driver pages it."""
    from bitsandbytes import functional

    def get_paged(*shape: int, dtype: Any = torch.float32, device: Any = None) -> Any:
        paged = torch.zeros(shape, dtype=dtype)
        paged.is_paged, paged.page_deviceid = True, device.index
        return paged

    functional.get_paged = get_paged
    functional.prefetch_tensor = lambda *_, **__: None
    functional.is_on_gpu = lambda tensors: True
    functional.fill = lambda tensor, value, **_: tensor.fill_(value)
