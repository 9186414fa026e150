"""Small models with random weights and rows of all tasks, made where they are needed: they fit into a suitcase."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.named import DEMO, DEMO_PACKAGE

EXAMPLES = Path(__file__).parents[2] / "examples"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIALS = ["<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
DECODER = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def rows(folder: Path) -> dict[str, Path]:
    """Files of rows made of the example texts, by task; what is to be learned is easy to tell from the text."""
    with (EXAMPLES / "support-train.csv").open(encoding="utf-8", newline="") as file:
        texts = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    made: dict[str, list[dict[str, Any]]] = {"preference": [], "seq2seq": [], "token_classification": [], "regression": []}
    for place, (text, label) in enumerate(texts):
        words = text.split()
        answer = [f"This is about {label}, as number {place} says.", f"I do not know number {place}."]
        made["preference"].append({"prompt": text, "chosen": answer[0], "rejected": answer[1]})
        made["seq2seq"].append({"source": text, "target": f"{label}: {' '.join(words[:6])}"})
        tags = ["B-long" if len(word) > 7 else "O" for word in words]
        made["token_classification"].append({"tokens": words, "tags": tags})
        made["regression"].append({"text": text, "score": len(words) + place % 7 / 10})
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for task, lines in made.items():
        found[task] = folder / f"{task}.jsonl"
        found[task].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return found


def encoder(folder: Path) -> str:
    """The demo's model where its package is; else one of its shape."""
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    if find_spec(DEMO_PACKAGE) is not None:
        return DEMO
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        trained = BertWordPieceTokenizer()
        trained.train([str(EXAMPLES / "support-train.csv")], vocab_size=3000, show_progress=False)
        trained.save_model(str(folder))
        BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
        torch.manual_seed(0)
        shape = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12}
        BertForMaskedLM(BertConfig(vocab_size=trained.get_vocab_size(), **shape)).save_pretrained(folder)
    return str(folder)


def tiny_llama(folder: Path) -> str:
    """A small decoder that is read packed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _decoder(folder, LlamaForCausalLM, lambda words: LlamaConfig(**DECODER, vocab_size=words, tie_word_embeddings=True))


def tiny_gemma2(folder: Path) -> str:
    """One that has to be read padded, with its head on the learned tokens only."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return _decoder(folder, Gemma2ForCausalLM, lambda words: Gemma2Config(**DECODER, vocab_size=words, head_dim=64))


def tiny_t5(folder: Path) -> str:
    """A small encoder-decoder."""
    from transformers import T5Config, T5ForConditionalGeneration

    shape = {"d_model": 256, "d_kv": 64, "d_ff": 512, "num_layers": 3, "num_heads": 4}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return _decoder(folder, T5ForConditionalGeneration, lambda words: T5Config(vocab_size=words, **shape, **ends))


def _decoder(folder: Path, make: Any, config: Any) -> str:
    """With a tokenizer made from the example conversations, and a chat template."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    if (folder / "config.json").exists():
        return str(folder)
    lines = (EXAMPLES / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        [m["content"] for line in lines for m in json.loads(line)["messages"]],
        vocab_size=1500,
        special_tokens=SPECIALS,
        show_progress=False,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=SPECIALS[2:],
        model_max_length=512,
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    make(config(len(tokenizer))).save_pretrained(folder)
    return str(folder)
