"""The model card beside the weights: what it is, how to load it, on what it was trained."""

import json
from pathlib import Path

from engine.rows import Split
from engine.text import clean, one_line
from engine.worker.adapters import extras
from engine.worker.modeling import Built
from engine.worker.tasks.base import Task
from recommender.recommendation import METHOD_NAMES

LOAD_FULL = """\
from transformers import {auto}, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {auto}.from_pretrained(folder)
"""

LOAD_LORA = """\
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, {auto}, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
base = PeftConfig.from_pretrained(folder).base_model_name_or_path
config = AutoConfig.from_pretrained(folder)  # of the fine-tuned model: the base does not know its labels
model = {auto}.from_pretrained(base, config=config{resized})
model = PeftModel.from_pretrained(model, folder)
"""

LOAD_QLORA = """\
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, {auto}, AutoTokenizer, BitsAndBytesConfig

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
base = PeftConfig.from_pretrained(folder).base_model_name_or_path
config = AutoConfig.from_pretrained(folder)  # of the fine-tuned model: the base does not know its labels
in_4_bit = BitsAndBytesConfig(  # as it was trained and scored
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    llm_int8_skip_modules={head},
)
model = {auto}.from_pretrained(base, config=config, quantization_config=in_4_bit{resized})
model = PeftModel.from_pretrained(model, folder)
"""

RESIZED = ", ignore_mismatched_sizes=True"
"""Where the base has a head with another number of outputs, which the adapter replaces."""


def model_card(task: Task, parts: Split, built: Built, base: str) -> str:
    """The card as Markdown. Names from the data and the model are foreign text and are cleaned."""
    plan = task.plan
    name = plan.model.id if not Path(plan.model.id).exists() else local_name(base)
    loading = {"full": LOAD_FULL, "lora": LOAD_LORA, "qlora": LOAD_QLORA.replace("{head}", repr(built.head or None))}[plan.method]
    loading = loading.replace("{auto}", task.auto_model).replace("{resized}", RESIZED if built.resized else "")
    base_line = f"base_model: {json.dumps(clean(plan.model.id))}\n" if not Path(plan.model.id).exists() else ""
    shape = [f"rank {plan.rank}", f"alpha {plan.alpha}", *extras(plan), f"on {plan.target_modules}"]
    adapter = "" if plan.method == "full" else f"{', '.join(shape)}; "
    part = {
        "all": "",
        "no_embeddings": "the embeddings kept as they were; ",
        "last_layers": f"only the head and the last {plan.last_layers} layers; ",
    }[plan.trained]
    library = "transformers" if plan.method == "full" else "peft"
    needed = {"full": "", "lora": " and peft", "qlora": ", peft and bitsandbytes"}[plan.method]
    return f"""---
library_name: {library}
pipeline_tag: {task.pipeline}
{base_line}tags: [loracle, {plan.method}]
---

# {one_line(name, 120)}, fine-tuned to {task.purpose}

{METHOD_NAMES[plan.method]} of `{one_line(name, 120)}` with Loracle on {len(parts.train):,} rows
({len(parts.validation):,} more chose the best checkpoint, {len(parts.held_out):,} were held out for the score).
The scores before and after stand in `report.json` of the run.

{task.about()}
## Load it

Nothing but transformers{needed} is needed.

```python
{loading}
{task.usage()}```

## How it was trained

{METHOD_NAMES[plan.method]}, {adapter}{part}learning rate {plan.learning_rate:g}
({plan.schedule}, {plan.warmup_steps} warm-up steps), effective batch {plan.effective_batch}, up to {plan.epochs:g} epochs,
texts cut at {plan.max_length} tokens,
weight decay {plan.weight_decay:g}, precision {plan.precision}, seed {plan.seed}.
"""


def of_merged(text: str, auto: str) -> str:
    """The card of a run's adapter as that of the model it was merged into."""
    last = "model = PeftModel.from_pretrained(model, folder)\n"
    before, _, rest = text.partition("```python\n")
    text = f"{before}```python\n{LOAD_FULL.replace('{auto}', auto)}{rest.partition(last)[2]}"
    text = text.replace("library_name: peft", "library_name: transformers", 1)
    text = text.replace("tags: [loracle,", "tags: [loracle, merged,", 1)
    in_bits = "Nothing but transformers, peft and bitsandbytes is needed."
    note = " It was trained and scored on a base in 4 bit; these weights are the base as it is stored with the adapter added."
    plain = "Nothing but transformers is needed: the adapter is merged into the weights."
    return text.replace(in_bits, plain + note, 1).replace("Nothing but transformers and peft is needed.", plain, 1)


def local_name(folder: str) -> str:
    """What to call a model that is only known by its folder: the folder's name, with its parent's where it says nothing."""
    path = Path(folder)
    return f"{path.parent.name}/{path.name}" if path.name in ("model", "base", "checkpoint") else path.name
