"""The model of a run: loaded safely, with a new head, prepared for full, LoRA or QLoRA training."""

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig

from engine.files import read_json
from engine.inspection.model import no_tokenizer
from engine.named import local_model
from engine.text import first_line
from engine.worker import own_head
from engine.worker.adapters import check_targets, with_adapters
from engine.worker.budget import give_back, has_lost_the_gpu, is_out_of_memory, refused_by_the_gpu
from engine.worker.freezing import freeze
from engine.worker.inner import body_of, inner_of
from engine.worker.recomputing import recompute
from engine.worker.stored import new_modules
from engine.worker.tasks.base import Task
from recommender.errors import InputError
from recommender.plan import ModelChoice, Plan

# bitsandbytes warns of a package of kernels that it would fetch from the hub; nobody here asked for that.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@dataclass(slots=True)
class Built:
    """A model ready for training."""

    model: Any
    head: list[str]
    """Names of the modules that are trained whole by every method: those that start from random weights, and a head of the
    checkpoint whose outputs were put into the order of the labels."""
    parameters: int
    """Of the whole model, as if unquantised."""
    trained: int
    """Parameters that the optimizer updates."""
    resized: bool = False
    """Whether the checkpoint's own head had another number of outputs, and a new one takes its place."""

    @property
    def body(self) -> Any:
        """The pretrained part that reads text, without the head."""
        body = body_of(self.model)
        return body.get_encoder() if inner_of(self.model).config.is_encoder_decoder else body


def device_name() -> str:
    """Where the Trainer will put the model too: an accelerator that torch can use, else `cpu`."""
    if torch.cuda.is_available():  # AMD's ROCm calls itself cuda as well
        return "cuda"
    if torch.xpu.is_available():
        return "xpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_label() -> str:
    """The name of that accelerator, where it has one; else its kind, or `cpu`."""
    kind = device_name()
    return str(getattr(torch, kind).get_device_name()) if kind in ("cuda", "xpu") else kind


def model_folder(choice: ModelChoice) -> str:
    """Where the model lies on this machine; nothing is downloaded here.

    Raises:
        InputError: it is neither a folder nor in the hub cache.
    """
    with maybe_moved(choice.id):
        local = local_model(choice.id)
    if local is not None:
        return str(local.absolute())
    # A snapshot that the library calls complete holds all of a repository's files, and never are all of them fetched.
    config = try_to_load_from_cache(choice.id, "config.json", revision=choice.revision)
    if not isinstance(config, str):
        named = f" --revision {choice.revision}" if choice.revision else ""
        raise InputError(f"{choice.id} is no longer in the hub cache; `hf download {choice.id}{named}` fetches it.")
    return str(Path(config).parent)


@contextmanager
def maybe_moved(name: str) -> Iterator[None]:
    """For looking up what a plan names: a run may go on where its files lie elsewhere, on another machine say.

    Raises:
        InputError: what was raised inside, with that said where there is nothing by that name.
    """
    try:
        yield
    except InputError as error:
        if not os.path.isabs(name) or os.path.exists(name):  # `Path.exists` raises where a folder above is closed
            raise
        raise InputError(f"{error} If it lies elsewhere now, write that place into the run's plan.yaml.") from None


def load_tokenizer(folder: str, *, words: bool = False) -> Any:
    """The model's tokenizer, with a padding token; for `words` apart, one that reads each as if a space came before it, where
    it has a setting for that.

    Raises:
        InputError: the folder holds none.
    """
    options = {"add_prefix_space": True} if words else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        before = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
        if words and isinstance(before, pre_tokenizers.Sequence):
            # Qwen's puts the space before every piece that the steps before it have made: "don't" would be read as don ' t.
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{folder}: its tokenizer cannot be loaded: {first_line(error)}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of a folder without any: all words unknown
        raise InputError(no_tokenizer(folder))
    # Padding that was added to a tokenizer and not to its model (Llama 2's usual <pad>) has no embedding to be looked up.
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= _vocabulary(folder):
        if tokenizer.eos_token is None:
            raise InputError(f"{folder}: its tokenizer has neither a padding nor an end token.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _vocabulary(folder: str) -> float:
    """Tokens that the model in `folder` knows; no bound where its configuration does not say."""
    file = Path(folder) / "config.json"
    config = read_json(file) if file.is_file() else {}
    known = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    return known if isinstance(known, int) else math.inf


def build(task: Task, folder: str, config: Any = None) -> Built:
    """The model for the plan's method, on its device, with a fresh head where the task needs one.

    `config` takes the place of the folder's own, for a model with fewer layers than it has.

    Raises:
        InputError: the folder cannot serve for the task.
    """
    plan, auto = task.plan, task.model_class()
    config = config or load_config(folder, task)
    labels = [*task.config_options().get("label2id", ())]
    head, own = new_modules(config, folder, auto, len(labels))
    places = own_head.places_of(task, Path(folder), labels) if own else None
    if places != [*range(len(labels))]:
        head = sorted([*head, *own])
    if head and not task.fresh_head:
        lacking = ", ".join(head[:5])
        raise InputError(f"{folder}: has no weights for {lacking}; take a model that comes with its {task.head_words}.")
    if plan.method != "full":
        check_targets(plan, config, auto)
    dtype = weights_dtype(plan)
    options: dict[str, Any] = {"config": config, "trust_remote_code": False, "use_safetensors": True, "dtype": dtype}
    if plan.method == "qlora":
        options["quantization_config"] = quantization(dtype, head)
        options["device_map"] = {"": device_name()}
    try:
        model, loaded = auto.from_pretrained(folder, **options, ignore_mismatched_sizes=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error) or has_lost_the_gpu(error) or refused_by_the_gpu(error):  # 4-bit weights are made on the GPU
            raise
        raise InputError(f"{folder}: the model cannot be loaded: {first_line(error)}") from error
    resized = sorted(loaded["mismatched_keys"])
    for name, stored, wanted in resized:
        if not any(name.startswith(f"{module}.") for module in head):
            shapes = f"is stored as {list(stored)}, and config.json wants {list(wanted)}"
            raise InputError(f"{folder}: {name} {shapes}; download the model again.")
        task.remark(
            "head_replaced", f"The model's own head has {stored[0]} outputs and {wanted[0]} are needed: a new one is trained."
        )
    for module in own:
        if places is None:
            own_head.renew(model, module)
        else:
            own_head.reorder(model, module, places)
    if plan.pissa:  # takes every weight apart: of an 8B model hours on a processor
        model = model.to(device_name())
    model = prepared(model, task, head)
    # Counted on the unquantised shapes: 4-bit weights are stored two to a byte.
    with torch.device("meta"):
        parameters = sum(p.numel() for p in auto.from_config(config).parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Built(placed(model, plan), head, parameters, trained, bool(resized))


def placed(model: Any, plan: Plan) -> Any:
    """A loaded model on its device; main memory gets back what the model was read into.

    The heap would keep it: on a GPU all of the weights where their type was changed (419 MB of SmolLM2-135M in fp32), on a CPU
    what 4-bit weights were made of (290 MB of it), in holes that no step's tensors fit into.
    """
    if plan.method != "qlora":  # loaded where it stays
        model = model.to(device_name())
    give_back()
    return model


def prepared(model: Any, task: Task, head: list[str]) -> Any:
    """A loaded model, for QLoRA already in 4 bit, made ready for the plan's method; `head` names its new modules.

    Apart from loading, so that a model that was never on a disk is trained in the same way.

    Raises:
        InputError: it has no modules of the plan's names.
    """
    plan = task.plan
    keep_trainable(model)
    if plan.method != "full":
        model = with_adapters(model, task, head)
    else:
        freeze(model, plan, head)
    if plan.gradient_checkpointing:
        recompute(model)
    model.config.use_cache = False
    if plan.precision != "bf16":
        for name, p in model.named_parameters():
            narrow = plan.adapter_dtype == "bf16" and ".lora_" in name
            if p.requires_grad and p.dtype in (torch.float16, torch.bfloat16) and not narrow:
                p.data = p.data.float()  # master weights and optimizer moments stay fp32 whatever the base is stored in
    return model


def load_config(folder: str, task: Task) -> Any:
    """The model's configuration with what this run's task says.

    Raises:
        InputError: not a configuration, or of a model that cannot do the task.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **task.config_options())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: config.json is not usable: {first_line(error)}") from None
    if type(config) not in task.model_class()._model_mapping:
        raise InputError(f"{folder}: models of type {config.model_type} have no {task.head_words} in transformers.")
    task.tells_texts_apart = tells_texts_apart(config)
    # Decoders classify at the last token that is not padding: what they take for it must be what rows are padded with.
    if getattr(config, "pad_token_id", None) is None or (task.fresh_head and task.family == "decoder"):
        config.pad_token_id = task.pad
    return config


def tells_texts_apart(config: Any) -> bool:
    """Whether a model has an embedding for the type of a token: of which text of a pair it is."""
    return (getattr(config, "type_vocab_size", None) or 0) > 1


def quantization(dtype: torch.dtype, head: list[str]) -> BitsAndBytesConfig:
    """NF4 with double quantisation (E20); new modules are named, or they would be quantised from random weights."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=head or None,  # nothing new: transformers then leaves the output layer alone
    )


def keep_trainable(model: Any) -> None:
    """Keep 4-bit layers in the layout that has gradients.

    On CPUs with AVX512-BF16 bitsandbytes repacks a layer for good at its first pass in evaluation mode. That kernel rounds
    to bf16 and has no backward pass: layers with a bias then fail in training, those without lose their gradient silently
    (seen with bitsandbytes 0.50).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def dtype_name(plan: Plan) -> str:
    """`weights_dtype` as configurations and `from_pretrained` know it."""
    return str(weights_dtype(plan)).removeprefix("torch.")


def weights_dtype(plan: Plan) -> torch.dtype:
    """How weights are held: fp32 where they are trained, 16 bit where they are frozen and the device computes in it, or where
    the plan wants nothing else."""
    if plan.precision == "fp32" or (plan.method == "full" and plan.precision != "bf16"):
        return torch.float32
    return torch.float16 if plan.precision == "fp16-mixed" else torch.bfloat16
