"""Facts: what is known of the machine, the model, the data and the goal.

The JSON names are an interface (`loracle inspect`, `loracle plan --facts`). Every field may be absent: `None` means
"not known", and the recommender then assumes a stated default. Sizes are bytes, shares run from 0 to 1.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from recommender.base import Given
from recommender.kinds import Purpose
from recommender.kinds import Task as Task
from recommender.step import TrainingStep

Count = Annotated[int, Field(ge=0, le=10**18)]
"""Bytes, rows, tokens or parameters: beyond these bounds a number is a mistake, not a fact."""
Share = Annotated[float, Field(ge=0, le=1)]

Backend = Literal["cuda", "rocm", "xpu", "mps", "cpu"]
Family = Literal["encoder", "decoder", "encoder-decoder"]
Layout = Literal[
    "text_label",
    "text_labels",
    "text_number",
    "tokens_tags",
    "alpaca",
    "prompt_completion",
    "source_target",
    "messages",
    "sharegpt",
    "preference",
    "text",
]
"""How one row is written: `text_labels` is multi-label, `tokens_tags` token tags (CoNLL too), `text` raw text."""
CLASSIFYING: frozenset[str] = frozenset({"classification", "multi_label", "regression", "token_classification"})
"""Tasks that put a head on the model; all others generate text."""


class Device(Given):
    """One accelerator."""

    name: str | None = None
    memory_total: Count | None = None
    memory_free: Count | None = None
    """Free now, not when nobody else uses the card."""
    compute_capability: tuple[Annotated[int, Field(ge=0, le=99)], Annotated[int, Field(ge=0, le=99)]] | None = None
    bf16: bool | None = None
    uuid: str | None = None
    """What `CUDA_VISIBLE_DEVICES` takes to choose this one."""
    mig: bool | None = None
    """Whether it is a slice of a card (MIG)."""
    temperature: Annotated[int, Field(ge=-100, le=1000)] | None = None
    """Degrees Celsius."""
    shares_memory: bool | None = None
    """Whether its memory is the system's, as on Apple's chips."""
    held_by_others: Count | None = None
    """Bytes that processes other than this one hold now."""

    @property
    def room(self) -> int | None:
        """Bytes that are free, none on a full card; the whole where only that is known."""
        return self.memory_total if self.memory_free is None else self.memory_free

    @field_validator("compute_capability", mode="before")
    @classmethod
    def _capability_as_printed(cls, given: Any) -> Any:
        """`8.9` is what nvidia-smi prints of it."""
        whole, point, part = str(given).partition(".")
        return (whole, part) if point and isinstance(given, str | float) else given


class Machine(Given):
    """The machine that would train."""

    backend: Backend = "cpu"
    devices: tuple[Device, ...] = ()
    """Every accelerator this process may use; empty on a CPU, where `ram_available` counts."""
    usable_devices: Count | None = None
    """How many of them one run can use; `None` means all. Loracle's own engine uses one."""
    cpu_name: str | None = None
    cpu_cores: Count | None = None
    """Cores this process may use, not cores of the host."""
    cpu_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """What a container's quota pays for of each of them; `None` means all."""
    cpu_bf16: bool | None = None
    """The processor multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    cpu_avx512: bool | None = None
    ram_total: Count | None = None
    ram_available: Count | None = None
    """The smaller of what the system has left and what the container's limit leaves."""
    disk_free: Count | None = None
    """Where the runs go."""
    hub_disk_free: Count | None = None
    """Where downloaded models go."""
    nf4: bool | None = None
    """4-bit kernels really ran here; `None` means not tried."""
    liger: str | None = None
    """The version of liger-kernel that is installed here beside Triton; `None` means none, or not known."""
    problems: tuple[str, ...] = ()
    """What could not be found out and why, and what is not counted, a sentence each: a driver that hangs, a run under way."""

    @model_validator(mode="before")
    @classmethod
    def _devices_tell_the_backend(cls, given: Any) -> Any:
        """Somebody who writes down a card and no backend does not mean a CPU."""
        if not isinstance(given, dict) or given.get("backend") is not None or not isinstance(given.get("devices"), list | tuple):
            return given
        named = [str(d.get("name")) for d in given["devices"] if isinstance(d, dict)]
        made_by = {"AMD": "rocm", "Radeon": "rocm", "Intel": "xpu", "Apple": "mps"}
        found = (backend for maker, backend in made_by.items() if maker in " ".join(named))
        return given | {"backend": next(found, "cuda")} if named else given

    @property
    def device(self) -> Device | None:
        """The one accelerator a run would see: the freest. `None` on a CPU."""
        if self.backend == "cpu" or not self.devices:
            return None
        return max(self.devices, key=lambda d: (d.memory_free is not None, d.room or 0))


class ModelFacts(Given):
    """A model, from its configuration and the headers of its weights; no weights are loaded."""

    id: str | None = None
    path: str | None = None
    family: Family | None = None
    parameters: Count | None = None
    embedding_parameters: Count | None = None
    linear_parameters: Count | None = None
    """In the linear maps of the layers: what QLoRA quantises and LoRA adapts."""
    other_parameters: Count | None = None
    """Neither embeddings nor linear maps: norms, biases, convolutions, routers, and the experts of a mixture."""
    expert_parameters: Count | None = None
    """In the routed experts, a part of `other_parameters`: transformers keeps the experts of a layer as one
    three-dimensional tensor, which 4-bit loading leaves as it is (seen with transformers 5.23, bitsandbytes 0.50)."""
    experts: Count | None = None
    """Of each mixture-of-experts layer; `None` in a dense model."""
    experts_per_token: Count | None = None
    active_parameters: Count | None = None
    """That one token passes through; fewer than `parameters` in a mixture of experts."""
    layers: Count | None = None
    """Of an encoder-decoder, those of the encoder."""
    decoder_layers: Count | None = None
    """Of an encoder-decoder's other half; `None` when it has as many as `layers` or there is no other half."""
    hidden_size: Count | None = None
    intermediate_size: Count | None = None
    attention_heads: Count | None = None
    kv_heads: Count | None = None
    vocabulary_size: Count | None = None
    max_positions: Count | None = None
    tied_embeddings: bool | None = None
    dtype: str | None = None
    quantization: str | None = None
    instruct: bool | None = None
    chat_template: bool | None = None
    license: str | None = None
    architecture: str | None = None
    config: dict[str, Any] | None = None
    """config.json as it is."""
    weights_bytes: Count | None = None
    weights_format: Literal["safetensors", "gguf"] | None = None


class Truncation(Given):
    """What a maximum length would cut off."""

    length: Count
    rows_cut: Count
    tokens_kept: Count
    rows_untrained: Count = 0
    """Rows whose answer begins behind the length, so that nothing would be learned from them."""


class Suspicion(Given):
    """A column that looks as if it should not be learned from."""

    column: str
    why: Literal["id", "constant", "leak", "outliers", "rival", "text", "unread", "ordered", "spoken", "group", "group_seen"]
    """Different in every row, the same in every row, giving the label away, numbers to learn of which some lie far off; one that
    could as well be the label, or the text, or that is text beside a question and its answer; a label of numbers in order
    (stars), or raw text that is written conversations; one of users or documents whose rows a split may part, or a file of
    held-out rows has parted."""
    share: Share | None = None
    """Of rows that show it."""
    word: str | None = None
    """The one within a text that gives the label away."""


class DataFacts(Given):
    """A data set, counted after exact duplicates were found and before any split."""

    task: Task | None = None
    rows: Count | None = None
    unique_rows: Count | None = None
    eval_rows: Annotated[Count | None, AfterValidator(lambda rows: rows or None)] = None
    """Rows of a separate held-out file; `None` (0 means the same) when there is none and rows will be carved from the data."""
    tokens_p50: Count | None = None
    tokens_p95: Count | None = None
    tokens_p99: Count | None = None
    tokens_max: Count | None = None
    longest_rows: tuple[Count, ...] = ()
    """Tokens of each of the 64 longest rows, or of all where they are fewer, the longest first; empty where only a sample was
    counted."""
    tokens_total: Count | None = None
    trained_tokens: Count | None = None
    """Labels that carry loss in one epoch, for tasks that generate text."""
    read_tokens: Count | None = None
    """Tokens that an encoder-decoder reads in one epoch; the other token counts are of the longer of what it reads and writes."""
    read_tokens_max: Count | None = None
    written_tokens_max: Count | None = None
    """Of the longest text that an encoder-decoder reads, and of the longest that it writes."""
    tokens_origin: Literal["measured", "estimated", "assumed"] | None = None
    truncation: tuple[Truncation, ...] = ()
    classes: Count | None = None
    label_counts: tuple[Count, ...] | None = None
    """In the order of `labels`."""
    labels: tuple[str, ...] | None = None
    respelled_labels: Count | None = None
    """Labels that most rows write otherwise (case, spaces, 1.0 for 1); they count as the usual ones."""
    duplicate_share: Share | None = None
    conflict_share: Share | None = None
    """Rows whose text also appears with another label."""
    overlap_share: Share | None = None
    """Held-out rows whose text is also among the training rows, with whatever punctuation."""
    near_overlap_share: Share | None = None
    """Held-out rows that differ from a training row only a little, beyond `overlap_share`; of large files of a sample."""
    empty_rows: Count | None = None
    unasked_rows: Count | None = None
    """Conversations that begin with the assistant; what it says before the first question is left out."""
    unlearned_answers: Count | None = None
    """Answers of weight 0: they are read and not learned."""
    unwritten_calls: Count | None = None
    """Conversations whose answers call tools, where the model's chat template does not write calls down."""
    unwritten_rows: Count | None = None
    """Those of them in which all answers do: nothing is learned from them."""
    unwritten_thoughts: Count | None = None
    """Conversations whose answers have thoughts in a field that the model's chat template does not write down."""
    spoken_thoughts: Count | None = None
    """Rows whose answers have thoughts in their text (<think>), of which the model's template and tokenizer know nothing."""
    thoughtless_rows: Count | None = None
    """Rows whose answers have no thoughts, where the model's chat template has answers begin with one."""
    near_duplicate_share: Share | None = None
    """Rows that differ from an earlier one only a little, beyond the exact repeats; estimated on a sample of large files."""
    suspicious_columns: tuple[Suspicion, ...] = ()
    shared_share: Share | None = None
    """Rows that share their prompt, their first message or one of two texts with another row and are kept on one side of a split
    with it; `None` where rows have no such part."""
    groups: Count | None = None
    """Of rows that belong together by the column that the person named (`columns["group"]`)."""
    ungrouped_rows: Count | None = None
    """Rows, held-out ones too, that hold nothing there: each is a group of its own."""
    group_overlap_share: Share | None = None
    """Held-out rows that have a group in common with the training rows, of a separate file of them."""
    unknown_share: Share | None = None
    """Tokens that stand for what the model's tokenizer has no piece for; `None` where it has pieces for everything."""
    language: str | None = None
    """A hint, as an ISO 639-1 code."""
    text_column: str | None = None
    label_column: str | None = None
    columns: dict[str, str] | None = None
    """The columns by the role they play: text, label, prompt, completion, messages, chosen, rejected, tokens, tags, ..."""
    layout: Layout | None = None
    """How the rows are written down."""
    confidence: Share | None = None
    """How sure task and columns are; 1 when the person named them."""
    format: str | None = None
    """Of the file: csv, tsv, json, jsonl, parquet, arrow, text, ..."""
    encoding: str | None = None
    separator: str | None = None
    header: bool | None = None
    """Whether a delimited file names its columns."""


class Goal(Given):
    """What the person wants. Every field has a default; none must be asked."""

    purpose: Purpose = "task"
    note: str | None = None
    time_budget_hours: Annotated[float, Field(ge=0, le=1e6)] | None = None
    forgetting: Literal["low", "medium", "high"] = "low"
    adapters_wanted: Count = 1
    sequential_updates: Count = 1
    ship_in_4_bit: bool = False
    continued_pretraining: bool = False
    """Raw text is to be learned as it is, in addition to what `data.task` shows."""


class Bf16Trial(Given):
    """The model's own training step on this CPU, computed in bf16 (fp32 weights) and in fp32, from the same start."""

    speedup: Annotated[float, Field(gt=0, le=1e3)]
    """How many times as fast the step was in bf16."""
    loss: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Of the first step in bf16; `None` when it was not a number."""
    loss_fp32: Annotated[float, Field(ge=0, le=1e6)]
    gradients_apart: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Distance of the two gradients, as a share of the fp32 one's length; `None` when it was not a number."""


class Measured(Given):
    """What a trace, a probe or a calibration found; it outranks every estimate."""

    memory_profile: dict[str, Any] | None = None
    """`steps`, a list of what traces have counted; `runs`, by method the factor that runs have shown; `context`, bytes that a
    process holds on this device beside torch's memory."""
    seconds_per_step: dict[str, Annotated[float, Field(gt=0, le=1e9)]] | None = None
    """Keyed by method, at that method's own settings."""
    matmul_flops: dict[str, Annotated[float, Field(ge=1e3, le=1e21)]] | None = None
    """Keyed by precision, floating-point operations per second."""
    bandwidth: Annotated[float, Field(ge=1e6, le=1e16)] | None = None
    """Bytes a second that are read and written."""
    launch: Annotated[float, Field(ge=1e-7, le=1e-2)] | None = None
    """Seconds that the host needs for an operation of a forward pass, beside which a card waits where its own part is small."""
    pace: dict[str, Annotated[float, Field(gt=0, le=1e3)]] | None = None
    """Keyed by method and precision, `lora fp32`: times a predicted step that earlier runs' steps took, where three agreed."""
    bf16: dict[str, Bf16Trial] | None = None
    """Keyed by method: whether bf16 pays on a CPU. A method that is not there was not tried."""

    @field_validator("memory_profile")
    @classmethod
    def _of_that_form(cls, profile: dict[str, Any] | None) -> dict[str, Any] | None:
        """What a single step says is looked at where it is read: a newer version may have written more."""
        found = {name: value for name, value in (profile or {}).items() if value is not None}
        context = found.get("context", 0)
        for name in ("steps", "untraceable", "untimed"):
            if not isinstance(found.get(name, []), list):
                raise ValueError(f"{name} has to be a list")
        if not isinstance(found.get("runs", {}), dict):
            raise ValueError("runs has to be an object of numbers by method")
        if isinstance(context, bool) or not isinstance(context, int | float) or not 0 <= context < 1e12:
            raise ValueError("context has to be a number of bytes")
        return found or None


class Facts(Given):
    """Everything `recommend` may look at."""

    machine: Machine = Machine()
    model: ModelFacts = ModelFacts()
    data: DataFacts = DataFacts()
    goal: Goal = Goal()
    plan: dict[str, Any] | None = None
    """Settings the person brought, to be checked and commented on."""
    measured: Measured = Measured()
    step: TrainingStep | None = None
    """For `loracle estimate`: the step whose memory and time are asked for."""

    def changed(self, part: str, **update: Any) -> "Facts":
        """With other values in that part."""
        return self.model_copy(update={part: getattr(self, part).model_copy(update=update)})
