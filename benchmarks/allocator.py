"""What glibc's settings of the worker are worth: steps of the same trainer with them and without, in turns.

    python -m benchmarks.allocator

MiniLM fully on IMDB rows in batches of 32, and SmolLM2-135M with LoRA on Alpaca rows in batches of 8, both in fp32 as Loracle
trains them. Threads and all else of the environment are the same on both sides. On a GPU the matter is another (expandable
segments), which this does not measure. Needs the chat demo's model (`make demo-chat`).
"""

from pathlib import Path
from typing import Any

from benchmarks.command_line import in_turns_line, keep
from benchmarks.paired import TrainerStepper, environments, in_turns, machine, serve, told

SIDES = ("with", "without")
STEPS = {"minilm": 5, "smollm2": 4}
"""Of a side; the first does not count for speed."""
DATA = {"minilm": "imdb", "smollm2": "alpaca"}


def stepper(model: str, side: str, work: Path) -> TrainerStepper:
    """The trainer of one side."""
    from benchmarks.loracle_side import trainer_on

    trainer, total = trainer_on(DATA[model], work, f"{model}-{side}")
    return TrainerStepper(trainer, lambda batch: batch.tokens, total)


def compare(model: str, work: Path) -> dict[str, Any]:
    """Tokens a second of both sides, by the clock and by processor time, and the peak of memory."""
    from engine.launch import ALLOCATOR

    _, ours = environments()
    sides = {"with": ours, "without": {k: v for k, v in ours.items() if k not in ALLOCATOR}}
    arguments = ["--model", model, "--work", str(work)]
    taken = in_turns("benchmarks.allocator", sides, arguments, warm_up=1, record=work / f"allocator-{model}.jsonl")
    return {
        "times": round(taken["with"].rate / taken["without"].rate, 2),
        "times_by_processor_time": round(taken["with"].rate_computed / taken["without"].rate_computed, 2),
        **told(taken, "tokens"),
    }


def main() -> None:
    """Run the comparison and write its result beside the others."""
    parser = in_turns_line(__doc__, SIDES)
    parser.add_argument("--model", choices=tuple(STEPS), help="only this")
    given = parser.parse_args()
    work = given.work.resolve()
    if given.what == "serve":
        serve(stepper(given.model, given.side, work), given.done, STEPS[given.model])
        return
    from engine.launch import ALLOCATOR

    models = [given.model] if given.model else list(STEPS)
    result = {"benchmark": "allocator", "settings": ALLOCATOR, **{m: compare(m, work) for m in models}, "machine": machine()}
    keep(result, given.output, "allocator")


if __name__ == "__main__":
    main()
