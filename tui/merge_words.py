"""A merge in words: what it is doing, and what came of it."""

from collections.abc import Sequence
from typing import Any

from engine.text import clean
from recommender.figures import share
from tui.i18n import _
from tui.words import number, size

MERGING = {
    "load": _("Loading the base and the adapter …"),
    "merge": _("Adding the adapter to the weights …"),
    "write": _("Writing the merged model …"),
    "compare": _("Comparing the merged model with the adapter …"),
}
"""What a merge is doing."""


def merged_words(facts: dict[str, Any]) -> str:
    """What came of a merge, and how far its model differs from the adapter's."""
    words = _("Merged: {path} ({size}, {dtype}).")
    said = [words.format(path=clean(facts["path"]), size=size(facts["bytes"]), dtype=facts["dtype"])]
    if facts["difference"] is None:
        said.append(_("It was not compared with the adapter, because the run's data is gone."))
        return said[0] + " " + said[1]
    rounded = facts["dtype"] != "float32"
    if facts["alike"] is None or not rounded:
        words = _("On {rows} rows its outputs equal the adapter's to within {difference} (the largest output is {largest}).")
        largest = f"{facts['largest_output']:.3g}"
        said.append(words.format(rows=facts["rows"], difference=f"{facts['difference']:.1g}", largest=largest))
    else:
        words = _("On {rows} rows it answers as the adapter does: {alike}.")
        said.append(words.format(rows=facts["rows"], alike=_alike(facts["alike"], writes=facts["writes"])))
    if rounded:
        words = _("What differs is lost by rounding the weights to {dtype}, as the base is stored.")
        said.append(words.format(dtype=facts["dtype"]))
    if facts["difference_in_4_bit"] is not None and facts["alike_in_4_bit"] is None:
        words = _("The run was scored on a 4-bit base, which this is not: outputs differ by up to {share} of the largest.")
        said.append(words.format(share=share(facts["difference_in_4_bit"] / (facts["largest_output"] or 1.0))))
    elif facts["alike_in_4_bit"] is not None:
        words = _("The run was scored on a 4-bit base, which this is not; compared with that: {alike}.")
        said.append(words.format(alike=_alike(facts["alike_in_4_bit"], writes=facts["writes"])))
    return " ".join(said)


def _alike(found: Sequence[int], *, writes: bool) -> str:
    """How many answers are the same."""
    same, every = found
    if writes:
        words = _("the likeliest next token is the same at {same} of {every} places ({share})")
    else:
        words = _("{same} of {every} labels are the same ({share})")
    return words.format(same=number(same), every=number(every), share=share(same / max(every, 1)))
