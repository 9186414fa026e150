"""The plan in the Trainer's words."""

import math
from pathlib import Path

from transformers import TrainingArguments

from engine.inspection.kernels import steps_in_8_bit
from engine.metrics.measures import MEASURES
from engine.refusals import NO_8_BIT
from engine.worker.modeling import device_name
from recommender.errors import InputError, Refused
from recommender.plan import Plan

OPTIMIZERS = {
    "adamw": "adamw_torch_fused",  # one pass over memory instead of a dozen: 20 ms a step, not 125, for MiniLM on 2 cores
    "adamw_8bit": "adamw_bnb_8bit",
    "adamw_8bit_paged": "paged_adamw_8bit",
}


CHOICE = "choice"
"""Name of what the best checkpoint is chosen by, beside the metrics of an evaluation."""
LOSS_COUNTS = 0.01
"""Beside a metric that counts rows, so that of two checkpoints which get as many right the surer one is kept: a difference
of 0.1 in loss weighs as much as 0.1 points."""
GUESSED, GUESSES_COUNT = 1.0, 0.05
"""Loss of a word above which its tag is guessed (to say none costs 0.3 where one word in twenty has one), and what more of it
weighs: WNUT's first steps hit 2% of the spans at a loss of 2.2, and would outdo the whole training after them."""


def choice_of(plan: Plan, metrics: dict[str, float]) -> float:
    """What the best checkpoint is chosen by: the higher the better, and a change of 0.001 is a small one.

    While a metric is 0, as the F1 of rare tags is until the model first dares to give one, the loss alone tells them apart. It
    counts as elsewhere: a head of random weights hits a span now and then, and must not outdo what has learned since.
    """
    measure, value, loss = MEASURES[plan.metric], metrics[plan.metric], metrics["loss"]
    if not measure.higher_is_better:
        return -math.log(max(value, 1e-12))
    if plan.metric == "span_f1":
        value -= GUESSES_COUNT * max(loss - GUESSED, 0.0)
    return value - LOSS_COUNTS * loss if measure.points else value


def training_arguments(plan: Plan, output: Path, total_steps: int, *, scored: bool) -> TrainingArguments:
    """Arguments for one run. A logical batch is one "device batch", so nothing is accumulated."""
    device = device_name()
    return TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=plan.effective_batch,
        gradient_accumulation_steps=1,
        max_steps=total_steps,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="constant_with_warmup" if plan.schedule == "constant" else plan.schedule,
        warmup_steps=plan.warmup_steps,
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.max_grad_norm,
        optim=OPTIMIZERS[plan.optimizer],
        seed=plan.seed,
        data_seed=plan.seed,
        bf16=plan.precision == "bf16-mixed",
        fp16=plan.precision == "fp16-mixed",
        use_cpu=device == "cpu",  # any other the Trainer finds as `device_name` does; Apple's and Intel's were not at hand
        eval_strategy="steps" if scored else "no",
        save_strategy="steps",
        metric_for_best_model=f"eval_{CHOICE}" if scored else None,
        greater_is_better=True,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # a logical batch holds no tensors
        restore_callback_states_from_checkpoint=True,
    )


def check_supported(plan: Plan) -> None:
    """Refuse what a plan may say and this worker cannot do.

    Raises:
        InputError: a precision that the device does not compute in.
        Refused: the 8-bit optimizer does not run on this machine.
    """
    if plan.precision == "fp16-mixed" and device_name() == "cpu":
        raise InputError("precision fp16-mixed needs a GPU, and there is none; use `--set precision=fp32`.")
    if plan.optimizer != "adamw" and steps_in_8_bit(device_name(), paged=plan.optimizer.endswith("paged")) is False:
        raise Refused(NO_8_BIT.format(optimizer=plan.optimizer))
