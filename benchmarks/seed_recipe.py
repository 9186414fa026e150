"""The hand-written recipe against Loracle's full fine-tune: same model, same rows, same machine, same run.

    python -m benchmarks.seed_recipe speed --data imdb        rows a second, 30 optimizer steps a side
    python -m benchmarks.seed_recipe accuracy --data imdb     held-out accuracy after 3 epochs (resumable, long)

Speed: three processes are made ready, then take one optimizer step each in turn, the order rotating, so that whatever
else the machine does falls on all of them alike: the recipe as it is, Loracle in its worker's environment, and the
recipe in that same environment, which separates the allocator from the rest.
"""

from pathlib import Path
from typing import Any

from benchmarks.accuracy import over_seeds
from benchmarks.command_line import in_turns_line, keep
from benchmarks.paired import TrainerStepper, environments, in_turns, machine, serve, told

STEPS = 30
WARM_UP = 2
"""Steps before the clock starts: threads, caches and optimizer states come into being in them."""
SIDES = ("recipe", "loracle", "recipe_same_allocator")


def stepper(side: str, data: str, work: Path) -> TrainerStepper:
    """The trainer of one side."""
    if side == "loracle":
        from benchmarks.loracle_side import plan_for_benchmark, trainer_of

        trainer, total = trainer_of(plan_for_benchmark(data, 1, work), work / "loracle")
        return TrainerStepper(trainer, lambda batch: len(batch.targets), total)
    from benchmarks.recipe import EPOCHS, build

    recipe = build(data, 1, work / side)
    rows = recipe.trainer.get_train_dataloader()
    return TrainerStepper(recipe.trainer, lambda batch: len(batch["labels"]), len(rows) * EPOCHS)


def speed(data: str, work: Path) -> dict[str, Any]:
    """Rows a second of each side, and the ratios to the recipe."""
    plain, ours = environments()
    sides = {side: plain if side == "recipe" else ours for side in SIDES}
    record = work / f"seed_recipe-{data}.jsonl"
    taken = in_turns("benchmarks.seed_recipe", sides, ["--data", data, "--work", str(work)], warm_up=WARM_UP, record=record)
    return {
        "benchmark": "seed_recipe speed",
        "data": data,
        "steps_a_side": STEPS,
        **told(taken, "rows"),
        "times_the_recipe": round(taken["loracle"].rate / taken["recipe"].rate, 2),
        "times_the_recipe_same_allocator": round(taken["loracle"].rate / taken["recipe_same_allocator"].rate, 2),
        "machine": machine(),
    }


def accuracy(data: str, seeds: list[int], work: Path) -> dict[str, Any]:
    """Held-out accuracy of both sides."""
    found = over_seeds(("recipe", "loracle"), data, "full", seeds, work)
    return {"benchmark": "seed_recipe accuracy", "data": data, **found}


def main() -> None:
    """Run one benchmark and write its result beside the earlier ones."""
    parser = in_turns_line(__doc__, SIDES, ("speed", "accuracy"))
    parser.add_argument("--data", choices=("imdb", "sst2"), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    work = given.work.resolve()
    if given.what == "serve":
        serve(stepper(given.side, given.data, work), given.done, WARM_UP + STEPS)
        return
    result = speed(given.data, work) if given.what == "speed" else accuracy(given.data, given.seeds, work)
    keep(result, given.output, f"seed_recipe-{given.what}-{given.data}")


if __name__ == "__main__":
    main()
