"""The model card beside the weights: what it is, how good it is, how to load it, on what it was trained."""

import re
from pathlib import Path

from engine.rows import Split
from engine.tables.table import joined_names
from engine.text import clean, one_line
from engine.worker import card_scores
from engine.worker.adapters import extras, needs_config
from engine.worker.modeling import Built, dtype_name
from engine.worker.tasks.base import Task
from recommender.recommendation import METHOD_NAMES

LOAD_FULL = """\
from transformers import {auto}, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {auto}.from_pretrained(folder)
"""

LOAD_ADAPTER = """\
from peft import PeftConfig, PeftModel
from transformers import {imports}

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
adapter = PeftConfig.from_pretrained(folder)  # it names its base
{prepared}base = {auto}.from_pretrained(
    adapter.base_model_name_or_path, revision=adapter.revision, {options}
)
model = PeftModel.from_pretrained(base, folder)
"""
CONFIGURED = "config = AutoConfig.from_pretrained(folder)  # of the fine-tuned model\n"
IN_4_BIT = """\
in_4_bit = BitsAndBytesConfig(  # as it was trained and scored
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    llm_int8_skip_modules={head},
)
"""
_LOADED = re.compile(r"^Nothing but transformers.*?^model = PeftModel[^\n]*\n", re.DOTALL | re.MULTILINE)
"""What a card says of loading an adapter, and the code."""

ALONE = {
    "text-generation": "`AutoModelForCausalLM.from_pretrained(folder)` and `pipeline(\"text-generation\", model=folder, "
    "tokenizer=folder)`\nload base and adapter too{stored}; where answers end must be said as below.\n",
    "text2text-generation": "`AutoModelForSeq2SeqLM.from_pretrained(folder)` loads base and adapter too{stored}.\n",
}
"""What else loads an adapter that the folder's name alone is enough for, by pipeline."""
NOT_ALONE = """\
{why}, so the folder's name alone is not enough: load it as below (`pipeline` takes
`model=model, tokenizer=tokenizer`), or merge it first (`loracle merge`).
"""
UNKNOWN = """\
The base does not know the labels (transformers may call its head newly initialized, which it is: the adapter brings the
trained one)"""
ROUNDED = """\
On CPUs that compute in bf16 (AVX512-BF16) bitsandbytes rounds to it whatever is asked: outputs there differ a little from
those that were scored.
"""
MOVED = """\
Its base was a folder on the machine it was trained on. Elsewhere, write its place into `adapter_config.json`
(`base_model_name_or_path`).
"""


def _loading(task: Task, built: Built) -> str:
    """Lines of Python that load the result as `tokenizer` and `model`."""
    plan, configured = task.plan, needs_config(task)
    if plan.method == "full":
        return LOAD_FULL.replace("{auto}", task.auto_model)
    in_bits = plan.method == "qlora"
    needs = {"config=config": configured, f'dtype="{dtype_name(plan)}"': not configured, "quantization_config=in_4_bit": in_bits}
    needs |= {"ignore_mismatched_sizes=True": built.resized}  # the base's head has another number of outputs, and is replaced
    classes = {"AutoConfig": configured, task.auto_model: True, "AutoTokenizer": True, "BitsAndBytesConfig": in_bits}
    prepared = CONFIGURED * configured + IN_4_BIT * in_bits
    parts = {"imports": _those(classes), "prepared": prepared, "options": _those(needs)}
    parts |= {"auto": task.auto_model, "head": repr(built.head or None)}
    code = LOAD_ADAPTER
    for name, text in parts.items():
        code = code.replace(f"{{{name}}}", text)
    return code


def _also(task: Task, *, local: bool) -> str:
    """What else loads an adapter, and what does not."""
    if needs_config(task):
        why = UNKNOWN if task.config_options() else "transformers passes over a part of DoRA"
        said = NOT_ALONE.replace("{why}", why)
    else:
        stored = " (on the base as it is stored, not in 4 bit)" if task.plan.method == "qlora" else ""
        said = ALONE[task.pipeline].replace("{stored}", stored)
    return said + MOVED * local


def _those(wanted: dict[str, bool]) -> str:
    return ", ".join(name for name, is_wanted in wanted.items() if is_wanted)


def model_card(task: Task, parts: Split, built: Built, base: str, scored: card_scores.Scored | None = None) -> str:
    """The card as Markdown, with the scores once there are some. Names from the data and the model are foreign text and are
    cleaned."""
    from huggingface_hub import ModelCardData

    plan = task.plan
    local = Path(plan.model.id).exists()
    name = local_name(base) if local else plan.model.id
    shape = [f"rank {plan.rank}", f"alpha {plan.alpha}", *extras(plan), f"on {plan.target_modules}"]
    adapter = "" if plan.method == "full" else f"{', '.join(shape)}; "
    part = {
        "all": "",
        "no_embeddings": "the embeddings kept as they were; ",
        "last_layers": f"only the head and the last {plan.last_layers} layers; ",
    }[plan.trained]
    also = "" if plan.method == "full" else _also(task, local=local)
    needed = {"full": "", "lora": " and peft", "qlora": ", peft and bitsandbytes"}[plan.method]
    rounded = ROUNDED if plan.method == "qlora" else ""
    results = card_scores.results(task.kind, plan.data, task.pipeline, scored)
    told = ModelCardData(
        library_name="transformers" if plan.method == "full" else "peft",
        pipeline_tag=task.pipeline,
        base_model=None if local else clean(plan.model.id),
        tags=["loracle", plan.method],
        model_name=f"{one_line(name, 120).replace('/', '-')}-{plan.method}" if results else None,
        eval_results=results or None,
    )
    return f"""---
{told.to_yaml()}
---

# {one_line(name, 120)}, fine-tuned to {task.purpose}

{METHOD_NAMES[plan.method]} of `{one_line(name, 120)}` with Loracle on {len(parts.train):,} rows
({len(parts.validation):,} more chose the best checkpoint, {len(parts.held_out):,} were held out for the score).

{task.about()}{_joined(task)}
{card_scores.section(task.kind, plan.data, len(parts.held_out), scored)}
## Load it

Nothing but transformers{needed} is needed.
{rounded}{also}
```python
{_loading(task, built)}
{task.usage()}```

## How it was trained

{METHOD_NAMES[plan.method]}, {adapter}{part}learning rate {plan.learning_rate:g}
({plan.schedule}, {plan.warmup_steps} warm-up steps), effective batch {plan.effective_batch}, up to {plan.epochs:g} epochs,
texts cut at {plan.max_length} tokens,
weight decay {plan.weight_decay:g}, precision {plan.precision}, seed {plan.seed}.
"""


def _joined(task: Task) -> str:
    """Of what a text is made, where it is several columns."""
    data = task.plan.data
    name = data.text_column or (data.columns or {}).get("text", "")
    if not joined_names(name):
        return ""
    return f"\nA text is the columns {one_line(name, 200)} of the training file, a line each.\n"


def of_merged(text: str, auto: str) -> str:
    """The card of a run's adapter as that of the model it was merged into."""
    text = _LOADED.sub(lambda found: _merged_loading(found[0], auto), text, count=1)
    text = text.replace("library_name: peft", "library_name: transformers", 1)
    return card_scores.of_adapter(text.replace("\n- loracle\n", "\n- loracle\n- merged\n", 1))


def _merged_loading(of_adapter: str, auto: str) -> str:
    note = " It was trained and scored on a base in 4 bit; these weights are the base as it is stored with the adapter added."
    said = "Nothing but transformers is needed: the adapter is merged into the weights."
    said += note if "bitsandbytes" in of_adapter else ""
    return f"{said}\n\n```python\n{LOAD_FULL.replace('{auto}', auto)}"


def local_name(folder: str) -> str:
    """What to call a model that is only known by its folder: the folder's name, with its parent's where it says nothing."""
    path = Path(folder)
    return f"{path.parent.name}/{path.name}" if path.name in ("model", "base", "checkpoint") else path.name
