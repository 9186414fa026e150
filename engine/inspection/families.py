"""Which family a model belongs to, by its `model_type`, else by what its config says."""

from typing import Any

from recommender.facts import Family


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENCODERS = _names(
    """albert bert big_bird camembert canine convbert data2vec-text deberta deberta-v2 distilbert electra ernie esm
    esmc eurobert flaubert fnet funnel gte ibert jina_embeddings_v3 layoutlm layoutlmv2 layoutlmv3 lilt longformer
    luke markuplm megatron-bert mobilebert modernbert mpnet modernvbert mra nomic_bert nystromformer perceiver rembert
    roberta roberta-prelayernorm roc_bert roformer splinter squeezebert tapas xlm xlm-roberta xlm-roberta-xl xlnet
    xmod yoso"""
)
ENCODER_DECODERS = _names(
    """bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder fsmt led longt5 m2m_100 marian mbart mt5 mvp
    nllb-moe pegasus pegasus_x plbart prophetnet switch_transformers t5 t5gemma t5gemma2 umt5"""
)
DECODERS = _names(
    """apertus arcee biogpt bitnet bloom codegen cohere cohere2 ctrl deepseek_v2 deepseek_v3 diffllama doge ernie4_5
    exaone4 falcon falcon_h1 falcon_mamba gemma gemma2 gemma3 gemma3_text glm glm4 gpt-sw3 gpt2 gpt_bigcode gpt_neo
    gpt_neox gpt_oss gptj granite granitemoe helium hunyuan_v1_dense hunyuan_v1_moe jamba jetmoe lfm2 llama mamba
    mamba2 minicpm3 minimax ministral ministral3 mistral mistral4 mixtral modernbert-decoder mpt nemotron olmo olmo2
    olmo3 olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5 qwen3_5_text qwen3_moe
    qwen3_next rwkv seed_oss smollm3 stablelm starcoder2 xglm zamba zamba2"""
)


def family_of(config: dict[str, Any]) -> Family | None:
    """The family, or `None` when the config does not tell."""
    kind = str(config.get("model_type", "")).lower()
    if kind in ENCODER_DECODERS or config.get("is_encoder_decoder") is True:
        return "encoder-decoder"
    if kind in DECODERS or config.get("is_decoder") is True:
        return "decoder"
    if kind in ENCODERS:
        return "encoder"
    names = config.get("architectures")
    first = str(names[0]) if isinstance(names, list) and names else ""
    if first.endswith(("ForCausalLM", "LMHeadModel")):
        return "decoder"
    if first.endswith(("ForMaskedLM", "ForPreTraining")):
        return "encoder"
    if first.endswith("ForConditionalGeneration") and not isinstance(config.get("text_config"), dict):
        return "encoder-decoder"
    return None
