"""What set-up asks of the engine and the recommender: blocking calls for threads, every import inside."""

from pathlib import Path
from typing import TYPE_CHECKING

from engine.text import clean
from recommender.kinds import METHODS
from tui import draft as drafts
from tui.draft import Draft
from tui.i18n import _
from tui.words import amount

if TYPE_CHECKING:
    from engine.inspect import DataInspection, ModelInspection
    from engine.inspection.child import Cancel
    from engine.inspection.pipes import Progress
    from recommender.facts import Machine
    from recommender.recommendation import Candidate, Recommendation


def inspect_model(name: str, cancel: "Cancel | None" = None) -> "ModelInspection":
    """Facts about a model.

    Raises:
        InputError: it cannot be used, or it was cancelled.
    """
    from engine.inspect import inspect_model

    return inspect_model(name, weights=False, cancel=cancel)


def models_here() -> list[tuple[str, str]]:
    """Models to choose from without typing, and where each was found."""
    from engine import demo_chat
    from engine.inspection.hub_list import cached_models

    found = [(name, _("used last")) for name in drafts.recent("model")]
    found.append(("demo", _("small encoder, for trying")))
    if demo_chat.is_there():
        found.append((demo_chat.NAME, _("small decoder, for trying")))
    folders = [p for p in sorted(Path().glob("*/config.json"))[:50] if clean(p.parent.name) == p.parent.name]
    found += [(f"./{p.parent.name}", _("folder here")) for p in folders]
    found += [(name, _("hub cache")) for name in cached_models()]
    return list({name: (name, where) for name, where in reversed(found)}.values())[::-1]


def models_on_hub(text: str) -> list[tuple[str, str]] | None:
    """What the hub's search finds, and how often it is downloaded; `None` without an answer. Takes up to ten seconds."""
    from engine.inspection.hub_list import found_on_hub

    found = found_on_hub(text)
    if found is None:
        return None
    often = _("hub, {n} downloads")
    return [(name, often.format(n=amount(n)) if n else _("hub")) for name, n in found if clean(name) == name]


def so_far(
    machine: "Machine", model: "ModelInspection", data: "DataInspection | None", draft: Draft
) -> "tuple[list[Candidate], Recommendation]":
    """The three candidates on what is known so far, with the draft's own settings, and the recommendation behind them.

    Rows that are not known yet are assumed.
    """
    from recommender.decide import recommend
    from recommender.facts import Facts
    from tui.work_plan import decided

    facts = Facts(machine=machine, model=model.facts, goal=draft.wanted())
    if data is None:
        advice = recommend(facts)
        return list(advice.candidates), advice
    found = decided(facts.model_copy(update={"data": data.facts}), model, data, draft)
    return [found.candidate(method) for method in METHODS], found.recommendation


def demo(kind: str = "support") -> Draft | None:
    """The demo of that kind (`support` or `chat`); `None` where its files or its model are not there."""
    from engine import demo_chat

    folder = Path(__file__).parents[1] / "examples"
    suffix = "csv" if kind == "support" else "jsonl"
    train, held_out = folder / f"{kind}-train.{suffix}", folder / f"{kind}-heldout.{suffix}"
    if not (train.is_file() and held_out.is_file()) or (kind == "chat" and not demo_chat.is_there()):
        return None
    return Draft(model="demo" if kind == "support" else demo_chat.NAME, data=str(train), held_out=str(held_out))


def inspect_data(
    draft: Draft, model_path: str | None, *, progress: "Progress | None" = None, cancel: "Cancel | None" = None
) -> "DataInspection":
    """Facts about the rows of a draft, with tokens counted by the model's tokenizer where it is known.

    Raises:
        InputError: they cannot be used, or it was cancelled.
    """
    from engine.inspect import inspect_data

    return inspect_data(
        draft.data,
        eval=draft.held_out or None,
        text_column=draft.columns.get("text") if _labelled(draft) else None,
        label_column=draft.columns.get("label") if _labelled(draft) else None,
        columns={} if _labelled(draft) else dict(draft.columns),
        task=draft.task or None,  # type: ignore[arg-type]  # what is none is told by the one who looks
        train_rows=draft.train_rows,
        eval_rows=draft.eval_rows,
        drop_conflicts=draft.drop_conflicts,
        model_path=model_path,
        progress=progress,
        cancel=cancel,
    )


def _labelled(draft: Draft) -> bool:
    return set(draft.columns) <= {"text", "label"}
