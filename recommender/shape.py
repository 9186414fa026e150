"""The model's dimensions as the arithmetic needs them: every unknown replaced by a stated default."""

from dataclasses import dataclass, field

from recommender.facts import CLASSIFYING, DataFacts, Family, ModelFacts

BYTES_BY_DTYPE = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "uint8": 1, "int8": 1}


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a transformer, all known or assumed. Counts are numbers of parameters."""

    family: Family
    parameters: int
    embedding_parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    vocabulary: int
    positions: int
    assumed: tuple[str, ...] = field(default=())
    """Facts that were not known, with the value taken instead, e.g. `layers 12`."""

    @property
    def linear_parameters(self) -> int:
        """Parameters of the layers' linear maps: what QLoRA quantises."""
        return max(self.parameters - self.embedding_parameters, 0)

    @property
    def key_value_width(self) -> int:
        """Width of the key and value projections."""
        return self.key_value_heads * (self.hidden // max(self.heads, 1))

    @property
    def adapter_parameters_per_rank(self) -> int:
        """Sum of d_in + d_out over all adapted linear layers: what one unit of LoRA rank costs."""
        h, i, kv = self.hidden, self.intermediate, self.key_value_width
        attention = 2 * (h + h) + 2 * (h + kv)
        gated = self.family == "decoder"
        mlp = (3 if gated else 2) * (h + i)
        blocks = 2 if self.family == "encoder-decoder" else 1
        return self.layers * (attention + mlp) * blocks


def shape_of(model: ModelFacts) -> Shape:
    """Fill in what is not known. The defaults follow the usual proportions of BERT- and Llama-like models."""
    assumed: list[str] = []

    def known(name: str, value: int | None, default: int) -> int:
        if value is None:
            assumed.append(f"{name} {default}")
            return default
        return value

    family: Family = model.family or "encoder"
    if model.family is None:
        assumed.append(f"family {family}")
    hidden = max(known("hidden_size", model.hidden_size, _hidden_guess(model.parameters)), 1)
    layers = known("layers", model.layers, 12 if hidden <= 1024 else 32)
    intermediate = known("intermediate_size", model.intermediate_size, 4 * hidden)
    vocabulary = known("vocabulary_size", model.vocabulary_size, 32_000)
    embeddings = known("embedding_parameters", model.embedding_parameters, vocabulary * hidden)
    body = layers * (4 * hidden * hidden + (3 if family == "decoder" else 2) * hidden * intermediate)
    heads = known("attention_heads", model.attention_heads, max(hidden // 64, 1)) or 1
    return Shape(
        family=family,
        parameters=known("parameters", model.parameters, embeddings + body),
        embedding_parameters=embeddings,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        key_value_heads=model.kv_heads or heads,
        vocabulary=vocabulary,
        positions=max(known("max_positions", model.max_positions, 512 if family == "encoder" else 4096), 2),
        assumed=tuple(assumed),
    )


def _hidden_guess(parameters: int | None) -> int:
    """Hidden size of a usual model with that many parameters."""
    if parameters is None:
        return 768
    for limit, hidden in ((30e6, 384), (200e6, 768), (600e6, 1024), (2e9, 2048), (5e9, 3072), (20e9, 4096), (50e9, 5120)):
        if parameters <= limit:
            return hidden
    return 8192


def checkpoint_bytes_per_parameter(model: ModelFacts) -> int:
    """Bytes a parameter takes in the checkpoint as published."""
    return BYTES_BY_DTYPE.get(model.dtype or "float32", 4)


def counts_as_encoder(shape: Shape, data: DataFacts) -> bool:
    """Whether the encoder rules apply: an encoder, or a small model with a classifier head.

    Encoder-decoders score as encoders up to 0.6B parameters and as decoders above (evidence, after D4); encoders too.
    """
    if shape.parameters > 600_000_000:
        return False
    return shape.family != "decoder" or (data.task or "classification") in CLASSIFYING


def tuned_as_encoder(shape: Shape, data: DataFacts) -> bool:
    """Whether the encoder rows of the hyper-parameter table apply: they do for large encoders too."""
    return shape.family == "encoder" or counts_as_encoder(shape, data)
