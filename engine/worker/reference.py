"""What the untouched model says of the rows, computed once and kept: preferences are learned in comparison with it."""

from engine.files import read_json, write_json
from engine.rundir import RunDirectory
from engine.worker.narrator import Narrator
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Encoded


def compare_with(model: object, rows: dict[str, Encoded], reader: Reader, run: RunDirectory, tell: Narrator) -> None:
    """Put into the rows' targets what `model`, before any training, says of them, if the task compares with that.

    An earlier life of the run has kept it, so that going on compares with the same numbers to the bit.
    """
    if not reader.task.has_reference:
        return
    file = run.scores / "reference.json"
    found: dict[str, list[list[float]]] = read_json(file, None) if file.exists() else {}
    for use, which in rows.items():
        if use not in found or len(found[use]) != len(which):
            found[use] = reader.reference(model, which, tell.progress("reference", len(which)))
            write_json(file, found, indent=None)
        which.targets.fields["reference"] = found[use]  # type: ignore[attr-defined]  # of pairs they are `Records`
