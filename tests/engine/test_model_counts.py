"""Parameters counted from headers, compared with what transformers builds from the same config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers.pytorch_utils import Conv1D

from engine.inspection.quantized import bits_of
from recommender.facts import ModelFacts
from tests.engine.made_models import facts_of, weights

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}
USUAL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 100,
         "max_position_embeddings": 64}  # fmt: skip
GROUPED = USUAL | {"num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SPARSE = GROUPED | {"num_experts_per_tok": 2}
BART = {"vocab_size": 100, "d_model": 64, "encoder_layers": 3, "decoder_layers": 1, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64}  # fmt: skip
T5 = {"vocab_size": 100, "d_model": 64, "d_ff": 96, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4, "d_kv": 16}


def saved(folder: Path, model: Any) -> ModelFacts:
    model.save_pretrained(folder)
    return facts_of(folder)


def body_of(model: Any, kind: str) -> Any:
    """What is fine-tuned: all of a model that writes, and of an encoder what its heads stand on."""
    return model if kind.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) else model.base_model


def counted(model: Any) -> dict[str, int]:
    """Parameters by the modules they belong to; tied ones once."""
    output = model.get_output_embeddings()
    tables = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    tables |= {id(p) for p in output.parameters()} if output is not None else set()
    maps = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear | Conv1D)} - tables
    experts = {id(p) for name, p in model.named_parameters() if ".experts." in name}
    found = {"total": 0, "linear": 0, "tables": 0, "experts": 0}
    for parameter in {id(p): p for p in model.parameters()}.values():
        number = parameter.numel()
        found["total"] += number
        found["linear"] += number if id(parameter) in maps - experts else 0
        found["tables"] += number if id(parameter) in tables else 0
        found["experts"] += number if id(parameter) in experts else 0
    return found


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "BertForMaskedLM": ("BertConfig", USUAL),
    "BertModel": ("BertConfig", USUAL),
    "RobertaForMaskedLM": ("RobertaConfig", USUAL),
    "RobertaForSequenceClassification": ("RobertaConfig", USUAL),
    "DistilBertForMaskedLM": ("DistilBertConfig", {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 96, "vocab_size": 100}),
    "DebertaV2ForMaskedLM": (
        "DebertaV2Config",
        USUAL | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "conv_kernel_size": 3, "position_buckets": 16},
    ),
    "ModernBertForMaskedLM": ("ModernBertConfig", USUAL | ENDS | {"cls_token_id": 1, "sep_token_id": 2}),
    "ElectraForPreTraining": ("ElectraConfig", USUAL | {"embedding_size": 32}),
    "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": 100} | ENDS),
    "LlamaForCausalLM": ("LlamaConfig", GROUPED | {"tie_word_embeddings": False}),
    "MistralForCausalLM": ("MistralConfig", GROUPED | {"tie_word_embeddings": True}),
    "GemmaForCausalLM": ("GemmaConfig", GROUPED | {"head_dim": 16}),
    "PhiForCausalLM": ("PhiConfig", USUAL | ENDS),
    "Qwen3ForCausalLM": ("Qwen3Config", GROUPED | {"head_dim": 16, "tie_word_embeddings": True}),
    "OPTForCausalLM": ("OPTConfig", USUAL | {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    "BloomForCausalLM": ("BloomConfig", {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 100}),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", USUAL | {"tie_word_embeddings": False}),
    "MixtralForCausalLM": ("MixtralConfig", SPARSE | {"num_local_experts": 4}),
    "Qwen3MoeForCausalLM": ("Qwen3MoeConfig", SPARSE | {"num_experts": 4, "moe_intermediate_size": 32, "head_dim": 16}),
    "Qwen2MoeForCausalLM": (
        "Qwen2MoeConfig",
        SPARSE | {"num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 48},
    ),
    "T5ForConditionalGeneration": ("T5Config", T5),
    "MT5ForConditionalGeneration": ("MT5Config", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "BartForConditionalGeneration": ("BartConfig", BART),
    "BartModel": ("BartConfig", BART),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_transformers_builds_is_what_is_counted(tmp_path: Path, name: str) -> None:
    config_class, settings = MODELS[name]
    model = getattr(transformers, name)(getattr(transformers, config_class)(**settings))
    facts = saved(tmp_path, model)
    truth = counted(body_of(model, name))
    assert facts.parameters == truth["total"]
    assert facts.linear_parameters == truth["linear"]
    # Norms that stand in a module called `embeddings` count with the tables.
    assert facts.embedding_parameters is not None
    assert 0 <= facts.embedding_parameters - truth["tables"] <= 4 * 64
    assert (facts.expert_parameters or 0) == truth["experts"]
    assert facts.other_parameters == truth["total"] - truth["linear"] - facts.embedding_parameters
    assert (facts.layers, facts.hidden_size, facts.vocabulary_size) == (3, 64, 100)
    assert (facts.attention_heads, facts.kv_heads) == (4, settings.get("num_key_value_heads", 4))
    assert facts.dtype == "float32"
    assert facts.weights_format == "safetensors"
    assert facts.architecture == name


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "MistralForCausalLM", "BartModel"])
def test_tied_or_not(tmp_path: Path, name: str) -> None:
    config_class, settings = MODELS[name]
    model = getattr(transformers, name)(getattr(transformers, config_class)(**settings))
    assert saved(tmp_path, model).tied_embeddings is (name in ("MistralForCausalLM", "BartModel"))


@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_both_halves_of_an_encoder_decoder(tmp_path: Path, name: str) -> None:
    config_class, settings = MODELS[name]
    facts = saved(tmp_path, getattr(transformers, name)(getattr(transformers, config_class)(**settings)))
    decoder = settings.get("num_decoder_layers", settings.get("decoder_layers"))
    assert (facts.family, facts.layers, facts.decoder_layers) == ("encoder-decoder", 3, decoder)
    assert facts.intermediate_size == 96


def test_a_t5_with_an_output_layer_of_its_own(tmp_path: Path) -> None:
    """As flan-t5 was published; saved today its config says something else."""
    tensors: dict[str, tuple[str, list[int]]] = {
        "shared.weight": ("F32", [50, 16]),
        "encoder.embed_tokens.weight": ("F32", [50, 16]),
        "decoder.embed_tokens.weight": ("F32", [50, 16]),
        "encoder.block.0.layer.0.SelfAttention.q.weight": ("F32", [16, 16]),
        "lm_head.weight": ("F32", [50, 16]),
    }
    facts = published(tmp_path, {"model_type": "t5", "tie_word_embeddings": False, "is_encoder_decoder": True}, tensors)
    assert (facts.tied_embeddings, facts.embedding_parameters, facts.linear_parameters) == (False, 1600, 256)
    tied = published(tmp_path, {"model_type": "t5", "tie_word_embeddings": True, "is_encoder_decoder": True}, tensors)
    assert (tied.tied_embeddings, tied.embedding_parameters) == (True, 800)


@pytest.mark.parametrize(("name", "experts"), [("MixtralForCausalLM", 4), ("Qwen3MoeForCausalLM", 4), ("Qwen2MoeForCausalLM", 4)])
def test_a_mixture_of_experts(tmp_path: Path, name: str, experts: int) -> None:
    config_class, settings = MODELS[name]
    facts = saved(tmp_path, getattr(transformers, name)(getattr(transformers, config_class)(**settings)))
    assert (facts.experts, facts.experts_per_token) == (experts, 2)
    assert facts.parameters is not None
    assert facts.expert_parameters is not None
    assert facts.active_parameters == facts.parameters - facts.expert_parameters // 2


SPARSE_SETTINGS = {"num_hidden_layers": 2, "hidden_size": 16, "vocab_size": 50, "num_attention_heads": 2}


def published(folder: Path, config: dict[str, Any], tensors: dict[str, tuple[str, list[int]]]) -> ModelFacts:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SPARSE_SETTINGS | config))
    weights(folder / "model.safetensors", tensors)
    return facts_of(folder)


def test_names_of_deepseek(tmp_path: Path) -> None:
    """Routed and shared experts, and a layer for predicting further tokens that transformers does not load."""
    expert = ("F8_E4M3", [8, 16])
    facts = published(
        tmp_path,
        {"model_type": "deepseek_v3", "n_routed_experts": 2, "num_experts_per_tok": 1, "n_shared_experts": 1,
         "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
        {
            "model.embed_tokens.weight": ("BF16", [50, 16]),
            "model.layers.0.mlp.gate.weight": ("BF16", [2, 16]),
            "model.layers.0.mlp.gate.e_score_correction_bias": ("F32", [2]),
            "model.layers.0.mlp.experts.0.up_proj.weight": expert,
            "model.layers.0.mlp.experts.0.up_proj.weight_scale_inv": ("F32", [1, 1]),
            "model.layers.0.mlp.experts.1.up_proj.weight": expert,
            "model.layers.0.mlp.shared_experts.up_proj.weight": expert,
            "model.layers.2.mlp.experts.0.up_proj.weight": expert,
            "lm_head.weight": ("BF16", [50, 16]),
        },
    )  # fmt: skip
    assert (facts.quantization, facts.experts, facts.tied_embeddings) == ("fp8", 2, False)
    assert (facts.embedding_parameters, facts.linear_parameters, facts.expert_parameters) == (1600, 128, 256)
    assert facts.parameters == 1600 + 128 + 256 + 34
    assert facts.active_parameters == facts.parameters - 128


def test_names_of_gpt_oss(tmp_path: Path) -> None:
    """Its experts are packed by pairs and have biases of two dimensions."""
    facts = published(
        tmp_path,
        {"model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False,
         "quantization_config": {"quant_method": "mxfp4"}},
        {
            "model.embed_tokens.weight": ("BF16", [50, 16]),
            "model.layers.0.mlp.experts.gate_up_proj_blocks": ("U8", [4, 32, 1, 8]),
            "model.layers.0.mlp.experts.gate_up_proj_scales": ("U8", [4, 32, 1]),
            "model.layers.0.mlp.experts.gate_up_proj_bias": ("BF16", [4, 32]),
            "model.layers.0.mlp.router.weight": ("BF16", [4, 16]),
            "model.layers.0.self_attn.q_proj.weight": ("BF16", [16, 16]),
            "model.layers.0.self_attn.sinks": ("BF16", [2]),
        },
    )  # fmt: skip
    assert (facts.quantization, facts.experts_per_token) == ("mxfp4", 2)
    assert facts.expert_parameters == 4 * 32 * 16 + 4 * 32
    assert (facts.linear_parameters, facts.other_parameters) == (256, 4 * 16 + 2 + 4 * 32 * 16 + 4 * 32)


def packed_by(bits: int) -> Callable[[int, int], dict[str, tuple[str, list[int]]]]:
    def gptq(rows: int, columns: int) -> dict[str, tuple[str, list[int]]]:
        return {
            "qweight": ("I32", [rows * bits // 32, columns]),
            "qzeros": ("I32", [1, columns * bits // 32]),
            "scales": ("F16", [1, columns]),
            "g_idx": ("I32", [rows]),
        }

    return gptq


def awq(rows: int, columns: int) -> dict[str, tuple[str, list[int]]]:
    return {"qweight": ("I32", [rows, columns // 8]), "qzeros": ("I32", [1, columns // 8]), "scales": ("F16", [1, columns])}


def bnb4(rows: int, columns: int) -> dict[str, tuple[str, list[int]]]:
    return {
        "weight": ("U8", [rows * columns // 2, 1]),
        "weight.absmax": ("U8", [rows * columns // 64]),
        "weight.quant_map": ("F32", [16]),
        "weight.nested_absmax": ("F32", [1]),
        "weight.nested_quant_map": ("F32", [256]),
        "weight.quant_state.bitsandbytes__nf4": ("U8", [80]),
    }


def bnb8(rows: int, columns: int) -> dict[str, tuple[str, list[int]]]:
    return {"weight": ("I8", [columns, rows]), "SCB": ("F32", [columns]), "weight_format": ("U8", [])}


def compressed(rows: int, columns: int) -> dict[str, tuple[str, list[int]]]:
    return {
        "weight_packed": ("I32", [columns, rows // 8]),
        "weight_scale": ("BF16", [columns, 1]),
        "weight_shape": ("I64", [2]),
        "weight_zero_point": ("I32", [1, 1]),
    }


def fp8(rows: int, columns: int) -> dict[str, tuple[str, list[int]]]:
    return {"weight": ("F8_E4M3", [columns, rows]), "weight_scale": ("F32", []), "input_scale": ("F32", [])}


@pytest.mark.parametrize(
    ("settings", "layer"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, packed_by(4)),
        ({"quant_method": "gptq", "bits": 3}, packed_by(3)),
        ({"quant_method": "gptq", "bits": 8}, packed_by(8)),
        ({"quant_method": "gptq", "bits": 2}, packed_by(2)),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, awq),
        ({"quant_method": "awq", "w_bit": 4}, awq),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}, bnb4),
        ({"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}, bnb8),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}}, compressed),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, fp8),
        ({"quant_method": "fbgemm_fp8"}, fp8),
    ],
    ids=lambda v: str(v.get("quant_method")) if isinstance(v, dict) else None,
)
def test_packed_layers_count_as_if_unpacked(
    tmp_path: Path, settings: dict[str, Any], layer: Callable[[int, int], dict[str, tuple[str, list[int]]]]
) -> None:
    """A Llama as transformers builds it, with every linear map of its layers replaced by its packed form."""
    config = transformers.LlamaConfig(**(GROUPED | {"tie_word_embeddings": False, "intermediate_size": 96}))
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    maps = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    tensors: dict[str, tuple[str, list[int]]] = {}
    for name, parameter in model.named_parameters():
        if name.removesuffix(".weight") not in maps:
            tensors[name] = ("F16", list(parameter.shape))
    for name, module in maps.items():
        for part, stored in layer(module.in_features, module.out_features).items():
            tensors[f"{name}.{part}"] = stored
    facts = published(tmp_path, config.to_dict() | {"quantization_config": settings}, tensors)
    truth = counted(model)
    assert facts.quantization == settings["quant_method"]
    assert (facts.parameters, facts.linear_parameters) == (truth["total"], truth["linear"])
    assert facts.embedding_parameters == truth["tables"]


@pytest.mark.parametrize(
    ("settings", "bits"),
    [
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}}}, 4),
        ({"quant_method": "torchao", "quant_type": "int8_dynamic_activation_int4_weight"}, 4),
        ({"quant_method": "torchao", "quant_type": "float8_weight_only"}, 8),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, 4),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4),
        ({"quant_method": "quanto", "weights": "qint2"}, 2),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3, "group_size": 64}}}, 3),
        ({"quant_method": "somebody's"}, 8),
    ],
)
def test_bits_of_a_weight_as_libraries_write_them_down(settings: dict[str, Any], bits: int) -> None:
    assert bits_of({"quantization_config": settings}) == bits


def test_what_is_quantised_in_this_stack_is_what_counts_as_linear(tmp_path: Path) -> None:
    """Saved by bitsandbytes itself, experts and all: what it packed is what is called linear."""
    config_class, settings = MODELS["MixtralForCausalLM"]
    transformers.MixtralForCausalLM(getattr(transformers, config_class)(**settings | {"num_local_experts": 4})).save_pretrained(
        tmp_path / "plain"
    )
    plain = facts_of(tmp_path / "plain")
    four = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    packed = transformers.MixtralForCausalLM.from_pretrained(tmp_path / "plain", quantization_config=four, device_map={"": "cpu"})
    quantised = sum(2 * p.numel() for p in packed.parameters() if p.dtype == torch.uint8)
    assert plain.linear_parameters == quantised


def test_large_models_as_published(tmp_path: Path) -> None:
    """Llama 3 8B: what its card says, from a header whose weights are a hole in the disk."""
    config = transformers.LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, intermediate_size=14336,
        vocab_size=128256, max_position_embeddings=8192, tie_word_embeddings=False, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    tensors = {name: ("BF16", list(p.shape)) for name, p in model.named_parameters()}
    facts = published(tmp_path, config.to_dict(), tensors)
    assert facts.parameters == 8_030_261_248
    assert facts.linear_parameters == counted(model)["linear"]
    assert facts.embedding_parameters == 2 * 128256 * 4096
    assert (facts.dtype, facts.weights_bytes is not None and facts.weights_bytes > 16_060_522_496) == ("bfloat16", True)
