"""Facts about a model folder from its config and the headers of its weights, and every folder that is none."""

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.inspection.model import inspect_folder, is_another
from engine.named import local_model
from recommender.errors import InputError
from tests.engine.made_models import Shapes, complaint, facts_of, weights

BERT = {"model_type": "bert", "architectures": ["BertModel"], "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16,
        "num_attention_heads": 2, "vocab_size": 100, "max_position_embeddings": 32}  # fmt: skip
BERT_WEIGHTS: Shapes = {
    "embeddings.word_embeddings.weight": ("F32", [100, 8]),
    "embeddings.position_ids": ("I64", [1, 32]),
    "encoder.layer.0.attention.self.query.weight": ("F32", [8, 8]),
    "cls.predictions.bias": ("F32", [100]),
}


def model(folder: Path, config: dict[str, Any] | None = None, tensors: Shapes | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(BERT if config is None else config))
    weights(folder / "model.safetensors", BERT_WEIGHTS if tensors is None else tensors)
    return folder


def test_the_demo_model_exactly() -> None:
    folder = local_model("demo")
    assert folder is not None
    facts = facts_of(folder, "demo")
    assert facts.model_dump(exclude={"config", "path"}) == {
        "id": "demo",
        "family": "encoder",
        "parameters": 22_713_216,
        # word, position and type embeddings and their norm
        "embedding_parameters": (30_522 + 512 + 2 + 2) * 384,
        # the layers' maps and the pooler's; then norms and biases
        "linear_parameters": 6 * (4 * 384 * 384 + 2 * 384 * 1536) + 384 * 384,
        "other_parameters": 6 * (4 * 384 + 1536 + 384 + 4 * 384) + 384,
        "experts": None,
        "experts_per_token": None,
        "expert_parameters": None,
        "active_parameters": None,
        "layers": 6,
        "decoder_layers": None,
        "hidden_size": 384,
        "intermediate_size": 1536,
        "attention_heads": 12,
        "kv_heads": 12,
        "vocabulary_size": 30_522,
        "max_positions": 512,
        "tied_embeddings": True,
        "dtype": "float32",
        "quantization": None,
        "instruct": False,
        "chat_template": False,
        "license": "apache-2.0",
        "architecture": "BertModel",
        "weights_bytes": 90_868_376,
        "weights_format": "safetensors",
    }


def test_buffers_and_heads_of_pre_training_are_no_parameters(tmp_path: Path) -> None:
    facts = facts_of(model(tmp_path / "m"))
    assert (facts.parameters, facts.embedding_parameters) == (864, 800)


def test_a_llama_like_decoder(tmp_path: Path) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 16,
              "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50,
              "max_position_embeddings": 2048, "tie_word_embeddings": False}  # fmt: skip
    tensors: Shapes = {
        "model.embed_tokens.weight": ("BF16", [50, 16]),
        "model.layers.0.self_attn.q_proj.weight": ("BF16", [16, 16]),
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", [2]),
        "lm_head.weight": ("BF16", [50, 16]),
    }
    folder = model(tmp_path / "tiny-llama", config, tensors)
    facts = facts_of(folder)
    assert (facts.family, facts.kv_heads, facts.dtype, facts.max_positions) == ("decoder", 2, "bfloat16", 2048)
    assert (facts.parameters, facts.embedding_parameters, facts.tied_embeddings) == (1856, 1600, False)
    assert (facts.instruct, facts.chat_template) == (False, False)


QWEN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize(
    ("name", "files", "instruct", "template"),
    [
        ("some-model", {"tokenizer_config.json": {"chat_template": "{{ messages }}"}}, True, True),
        ("some-model", {"chat_template.jinja": QWEN}, True, True),
        ("some-model", {"chat_template.json": {"chat_template": QWEN}}, False, False),  # a processor's: no tokenizer reads it
        ("some-model", {"tokenizer_config.json": {"chat_template": [{"name": "default", "template": QWEN}]}}, True, True),
        ("qwen", {"tokenizer_config.json": {"chat_template": QWEN, "eos_token": "<|im_end|>"}}, True, True),
        ("qwen", {"tokenizer_config.json": {"chat_template": QWEN, "eos_token": {"content": "<|im_end|>"}}}, True, True),
        # A base model that carries the template of its tuned sibling.
        ("qwen", {"tokenizer_config.json": {"chat_template": QWEN, "eos_token": "<|endoftext|>"}}, False, True),
        ("Qwen3-8B-Base", {"tokenizer_config.json": {"chat_template": QWEN, "eos_token": "<|im_end|>"}}, False, True),
        ("gemma-2-2b-it", {"tokenizer_config.json": {"chat_template": QWEN, "eos_token": "<eos>"}}, True, True),
        ("gemma-3-1b-pt", {"tokenizer_config.json": {"chat_template": QWEN}}, False, True),
        ("Llama-3.2-1B-Instruct", {}, True, False),
        ("zephyr", {"tokenizer_config.json": {"chat_template": "{{ m + eos_token }}", "eos_token": "</s>"}}, True, True),
        ("some-model", {"tokenizer_config.json": "not JSON"}, False, False),
        ("some-model", {"tokenizer_config.json": []}, False, False),
        ("italian-model", {}, False, False),
    ],
)
def test_instruct_or_base(tmp_path: Path, name: str, files: dict[str, object], instruct: bool, template: bool) -> None:
    config = {**BERT, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    folder = model(tmp_path / "m", config)
    for file, content in files.items():
        (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    facts = facts_of(folder, f"org/{name}")
    assert (facts.instruct, facts.chat_template) == (instruct, template)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\ntags: [x]\nlicense: 'mit'\n---\nlicense: no\n", "mit"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", "qwen-research"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\n  - mit\n---\n", None),
        ("license: mit\n", None),
    ],
)
def test_the_licence_of_the_model_card(tmp_path: Path, card: str, licence: str | None) -> None:
    folder = model(tmp_path / "m")
    (folder / "README.md").write_text(card)
    assert facts_of(folder).license == licence


def test_a_tied_output_layer_counts_once(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 16, "tie_word_embeddings": True}
    tensors: Shapes = {"model.embed_tokens.weight": ("F16", [50, 16]), "lm_head.weight": ("F16", [50, 16])}
    facts = facts_of(model(tmp_path / "m", config, tensors))
    assert (facts.parameters, facts.embedding_parameters) == (800, 800)


def test_gpt2_names_and_its_stored_masks(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": 2, "n_embd": 8, "n_head": 2, "n_inner": None,
              "n_positions": 64, "n_ctx": 64, "vocab_size": 100}  # fmt: skip
    tensors: Shapes = {
        "wte.weight": ("F32", [100, 8]),
        "wpe.weight": ("F32", [64, 8]),
        "h.0.attn.bias": ("F32", [1, 1, 64, 64]),
        "h.0.attn.c_attn.bias": ("F32", [24]),
    }
    facts = facts_of(model(tmp_path / "m", config, tensors))
    assert (facts.family, facts.layers, facts.hidden_size, facts.intermediate_size) == ("decoder", 2, 8, 32)
    assert (facts.attention_heads, facts.max_positions) == (2, 64)
    assert (facts.parameters, facts.embedding_parameters) == (1336, 1312)


def test_roberta_keeps_two_positions_for_padding(tmp_path: Path) -> None:
    facts = facts_of(model(tmp_path / "m", {**BERT, "model_type": "roberta", "max_position_embeddings": 514}))
    assert facts.max_positions == 512


def test_distilbert_calls_its_width_dim(tmp_path: Path) -> None:
    config = {"model_type": "distilbert", "n_layers": 3, "dim": 8, "hidden_dim": 32, "n_heads": 2, "vocab_size": 100}
    facts = facts_of(model(tmp_path / "m", config))
    assert (facts.layers, facts.hidden_size, facts.intermediate_size, facts.attention_heads) == (3, 8, 32, 2)


def test_t5_shares_one_table(tmp_path: Path) -> None:
    config = {"model_type": "t5", "is_encoder_decoder": True, "d_model": 8, "num_layers": 2, "vocab_size": 50}
    tensors: Shapes = {"shared.weight": ("F32", [50, 8]), "encoder.embed_tokens.weight": ("F32", [50, 8])}
    facts = facts_of(model(tmp_path / "m", config, tensors))
    assert (facts.family, facts.parameters, facts.layers) == ("encoder-decoder", 400, 2)


def test_a_family_that_is_not_listed_is_told_by_its_architecture(tmp_path: Path) -> None:
    config = {**BERT, "model_type": "brand_new", "architectures": ["BrandNewForCausalLM"]}
    assert facts_of(model(tmp_path / "m", config)).family == "decoder"


def test_of_a_dimension_for_each_layer_the_largest_counts(tmp_path: Path) -> None:
    assert facts_of(model(tmp_path / "m", {**BERT, "intermediate_size": [16, 32, 16]})).intermediate_size == 32


def test_a_quantised_checkpoint_is_a_fact(tmp_path: Path) -> None:
    config = {**BERT, "model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    tensors: Shapes = {
        "model.embed_tokens.weight": ("F16", [100, 8]),
        "model.layers.0.mlp.up_proj.weight": ("U8", [64, 1]),
        "model.layers.0.mlp.up_proj.weight.absmax": ("U8", [2]),
        "model.layers.0.mlp.up_proj.weight.quant_map": ("F32", [16]),
    }
    facts = facts_of(model(tmp_path / "m", config, tensors))
    assert (facts.quantization, facts.parameters) == ("bitsandbytes", 928)


def test_shards_are_added_up_and_a_missing_one_is_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, part in zip(names, [dict(list(BERT_WEIGHTS.items())[:2]), dict(list(BERT_WEIGHTS.items())[2:])], strict=True):
        weights(folder / name, part)
    index = {"weight_map": {name: names[i // 2] for i, name in enumerate(BERT_WEIGHTS)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert facts_of(folder).parameters == 864
    (folder / names[1]).unlink()
    assert "1 of 2 weight files are missing, first model-00002-of-00002.safetensors" in complaint(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "model.bin"])
def test_an_index_may_not_point_elsewhere(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "is not a safetensors file beside it" in complaint(folder)


def test_the_fingerprint_follows_config_headers_and_weights(tmp_path: Path) -> None:
    first = inspect_folder(str(model(tmp_path / "a")))["fingerprint"]
    assert first == inspect_folder(str(model(tmp_path / "b")))["fingerprint"]
    trained = model(tmp_path / "trained")
    with (trained / "model.safetensors").open("r+b") as file:  # as a fine-tune that is saved over it leaves it
        file.seek(-400, 2)
        file.write(b"\x3c" * 400)
    assert first != inspect_folder(str(trained))["fingerprint"]
    assert is_another(inspect_folder(str(trained)), first)
    assert not is_another(inspect_folder(str(trained)), inspect_folder(str(tmp_path / "a"))["headers"])  # an older plan's
    assert first != inspect_folder(str(model(tmp_path / "c", {**BERT, "hidden_act": "relu"})))["fingerprint"]
    assert first != inspect_folder(str(model(tmp_path / "d", tensors={**BERT_WEIGHTS, "extra": ("F32", [1])})))["fingerprint"]


def test_a_folder_above_the_model_names_it(tmp_path: Path) -> None:
    model(tmp_path / "inner")
    assert f"Did you mean {tmp_path / 'inner'}?" in complaint(tmp_path)


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert "is not a folder" in complaint(tmp_path / "none")


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in complaint(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    assert "(--model org/base), or merge the two: `loracle merge RUN`" in complaint(tmp_path)
    (tmp_path / "plan.yaml").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "adapter_config.json").rename(tmp_path / "model" / "adapter_config.json")
    assert f"`loracle merge {tmp_path}`" in complaint(tmp_path / "model")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_never_opened(tmp_path: Path, name: str) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    message = complaint(folder)
    assert name in message
    assert "convert them to safetensors" in message


def test_no_weights_at_all(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in complaint(folder)


def test_weights_under_another_name(tmp_path: Path) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert "holds weights.safetensors but neither" in complaint(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it has no header"),
        (struct.pack("<Q", 10**12) + b"{}", "longer than the file"),
        (struct.pack("<Q", 2**63) + b"{}", "longer than the file"),
        (struct.pack("<Q", 4) + b"nope", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "no list of tensors"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ],
)
def test_a_damaged_weight_file(tmp_path: Path, content: bytes, said: str) -> None:
    folder = model(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(content)
    assert said in complaint(folder)


def test_a_weight_file_cut_short(tmp_path: Path) -> None:
    path = model(tmp_path / "m") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "the download was cut short" in complaint(tmp_path / "m")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": [10**30], "data_offsets": [0, 4 * 10**30]},
        {"dtype": "X1", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        "text",
    ],
)
def test_a_tensor_that_cannot_be(tmp_path: Path, entry: object) -> None:
    folder = model(tmp_path / "m")
    raw = json.dumps({"a": entry}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))
    assert "damaged safetensors file" in complaint(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; a whole number from 1 to 10,000"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"vocab_size": 10**12}, "vocab_size is"),
        ({"hidden_size": -8}, "hidden_size is -8"),
        ({"hidden_size": "8"}, 'hidden_size is "8"'),
        ({"hidden_size": True}, "hidden_size is true"),
        ({"hidden_size": 8.0}, "hidden_size is 8.0"),
        ({"intermediate_size": [8, 0, "9"]}, "intermediate_size is [8, 0"),
        ({"model_type": None}, "names no model_type"),
    ],
)
def test_a_config_that_cannot_be_believed(tmp_path: Path, change: dict[str, object], said: str) -> None:
    message = complaint(model(tmp_path / "m", {**BERT, **change}))
    assert "config.json" in message
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ('{"model_type": "bert",\n"hidden_size" 8}', "config.json:2: not JSON"),
        ('{"model_type": "bert", "x": NaN}', "it holds NaN"),
        ('{"model_type": "bert", "x": 1e999}', "beyond all bounds"),
        ('{"model_type": "bert", "x": ' + "9" * 10_000 + "}", "not usable as JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"model_type": "bert", "x": ' + "[" * 50 + "]" * 50 + "}", "is no model's config"),
        ("[]", "is no model's config"),
        (" " * 10_000_001, "larger than 10 MB"),
    ],
)
def test_a_config_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    folder = model(tmp_path / "m")
    (folder / "config.json").write_text(text)
    assert said in complaint(folder)


@settings(max_examples=60)
@given(place=st.integers(0, 700), value=st.integers(0, 255), cut=st.integers(0, 700))
def test_flipped_and_lost_bytes_give_facts_or_one_sentence(tmp_path: Path, place: int, value: int, cut: int) -> None:
    folder = model(tmp_path / "m")
    for name in ("config.json", "model.safetensors"):
        raw = bytearray((folder / name).read_bytes())
        raw[min(place, len(raw) - 1)] = value
        (folder / name).write_bytes(bytes(raw[cut:] if cut % 3 == 0 else raw))
    with suppress(InputError):
        inspect_folder(str(folder))
