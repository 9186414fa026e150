"""What a person has said so far of a run to be: kept between visits, and written out as a command."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engine import userstate
from engine.files import expanded
from recommender.assignment import as_typed
from recommender.kinds import METHODS
from tui import editable
from tui.flags import GOAL_FLAGS, said_goal

if TYPE_CHECKING:
    from argparse import Namespace

    from engine.rundir import RunDirectory
    from recommender.facts import Goal
    from recommender.plan import Plan

MOST_RECENT = 12
MOST_ASIDE = 9
"""Drafts beside the one that set-up opens with."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything may still be missing."""

    model: str = ""
    data: str = ""
    held_out: str = ""
    task: str = ""
    """As the person named it; empty where it is told from the rows."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """By role (text, label, prompt, ...); empty where they are told from the rows."""
    drop_conflicts: bool = False
    """Training rows whose text also appears with another label are left out."""
    train_rows: int | None = None
    """A sample of the training rows."""
    eval_rows: int | None = None
    """A sample of the held-out rows; where no file of them was named, so many rows of the data."""
    goal: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the goal that were said."""
    method: str = ""
    """As the person chose it; empty for the advised one."""
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Settings of the person's own, as after `--set`: by method, then by field of the plan."""

    def with_setting(self, method: str, name: str, value: str | None) -> "Draft":
        """With that setting of that method; `None` takes back what was said."""
        own = {n: v for n, v in self.settings.get(method, {}).items() if n != name}
        own |= {name: value} if value is not None else {}
        others = {m: s for m, s in self.settings.items() if m != method}
        return replace(self, settings=others | ({method: own} if own else {}))

    def assignments(self, method: str) -> list[str]:
        """The settings of that method as after `--set`."""
        return [f"{name}={value}" for name, value in self.settings.get(method, {}).items()]

    def wanted(self) -> "Goal":
        """The goal, without what was kept of it and makes no sense."""
        from pydantic import ValidationError

        from recommender.facts import Goal

        try:
            return Goal.model_validate(dict(self.goal))
        except ValidationError as error:
            wrong = {part["loc"][0] for part in error.errors() if part["loc"]}
        return Goal.model_validate({name: value for name, value in self.goal.items() if name not in wrong})

    def arguments(self, method: str = "", *, anyway: bool = False) -> list[str]:
        """What to type after `loracle` for this run and that method; files are named so that it works in any folder."""
        typed = ["--auto", "--model", _everywhere(self.model), "--data", _everywhere(self.data)]
        typed += ["--eval", _everywhere(self.held_out)] if self.held_out else []
        typed += ["--task", self.task] if self.task else []
        for role, name in self.columns.items():
            typed += [f"--{role}-column", name] if role in ("text", "label") else ["--column", f"{role}={name}"]
        typed += ["--drop-conflicts"] if self.drop_conflicts else []
        typed += ["--train-rows", str(self.train_rows)] if self.train_rows is not None else []
        typed += ["--eval-rows", str(self.eval_rows)] if self.eval_rows is not None else []
        for name, flag in GOAL_FLAGS.items():
            value = self.goal.get(name)
            if value is True:
                typed.append(flag)
            elif value not in (None, False):
                typed += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
        typed += ["--method", method] if method else []
        for assignment in self.assignments(method):
            typed += ["--set", assignment]
        return [*typed, "--anyway"] if anyway else typed

    def command(self, method: str = "", *, anyway: bool = False) -> str:
        """The whole command, to be pasted into a shell."""
        return shlex.join(["loracle", *self.arguments(method, anyway=anyway)])


def _everywhere(name: str) -> str:
    path = expanded(name)
    return str(path.absolute()) if os.path.lexists(path) else name


def of_run(run: "RunDirectory") -> Draft:
    """What one would have said to get that run, with the goal that its advice was for.

    Raises:
        InputError: its plan cannot be read.
    """
    from engine.files import json_object
    from recommender.facts import Goal

    kept = (json_object((run.group or run.path) / "facts.json") or {}).get("goal")
    said = {name: value for name, value in kept.items() if value is not None} if isinstance(kept, dict) else {}
    goal = Draft(goal=said).wanted()
    others = {name: value for name, value in goal if value != getattr(Goal(), name)}
    return replace(of_plan(run.plan()), goal=others)


def of_plan(plan: "Plan") -> Draft:
    """What one would have said to get that plan."""
    from engine.inspection.layouts import nameable
    from engine.named import usual_name

    content = plan.model_dump(mode="json")
    roles = {role: name for role in ("text", "label") if (name := content["data"][f"{role}_column"])}
    own = {n: as_typed(v) for n, v in content.items() if n not in NOT_SETTINGS and v is not None}
    own |= {f"data.{n}": str(v) for n in OF_ROWS if (v := content["data"][n]) is not None}
    return Draft(
        model=usual_name(plan.model.id),
        data=plan.data.train,
        held_out=plan.data.eval or "",
        task=plan.task,
        columns=roles | nameable(plan.data.columns or {}),
        drop_conflicts=plan.data.drop_conflicts,
        train_rows=plan.data.train_rows,
        eval_rows=plan.data.eval_rows,
        method=plan.method,
        settings={plan.method: own},
    )


def of_flags(given: "Namespace") -> Draft | None:
    """What was said on the command line; `None` where nothing was. Settings hold for every method that has them, or for the
    one that was named.

    Raises:
        InputError: there is no such setting.
    """
    pairs = [*([f"seed={given.seed}"] if given.seed != 1 else []), *given.assignments]
    if pairs:
        from recommender.plan_file import set_fields

        set_fields({}, pairs)
    own = {name.strip(): value for name, _sign, value in (pair.partition("=") for pair in pairs)}
    of_all = {m: {n: v for n, v in own.items() if n not in editable.meaningless(m)} for m in METHODS}
    roles = {"text": given.text_column, "label": given.label_column, **dict(given.columns)}
    draft = Draft(
        model=given.model or "",
        data=given.data or "",
        held_out=given.eval or "",
        task=given.task or "",
        columns={role: name for role, name in roles.items() if name},
        drop_conflicts=given.drop_conflicts,
        train_rows=given.train_rows,
        eval_rows=given.eval_rows,
        goal=said_goal(given),
        method=given.method or "",
        settings={given.method: own} if own and given.method else {m: said for m, said in of_all.items() if said},
    )
    return draft if draft != Draft() else None


NOT_SETTINGS = frozenset({"version", "model", "data", "task", "method", "overrides"})
OF_ROWS = ("validation_rows", "held_out_rows")
"""Settings that a plan has among its data."""


def kept() -> Draft:
    """The draft that was left behind; an empty one where there is none, or it is damaged."""
    return _whole(userstate.recall("draft.json")) or Draft()


def keep(draft: Draft) -> None:
    """Keep it for the next visit."""
    userstate.keep("draft.json", asdict(draft))


def aside() -> list[Draft]:
    """Drafts that were begun and left for another one, the newest first."""
    found = userstate.recall("drafts.json").get("aside")
    return [draft for one in found if (draft := _whole(one)) is not None] if isinstance(found, list) else []


def begin(draft: Draft) -> bool:
    """Go on with that one, new or from those put aside; what was begun before it is put aside. Whether there was any."""
    before = kept()
    begun = before != draft and bool(before.model or before.data)
    others = [before] * begun + [one for one in aside() if one not in (before, draft)]
    userstate.keep("drafts.json", {"aside": [asdict(one) for one in others[:MOST_ASIDE]]})
    keep(draft)
    return begun


def _whole(content: Any) -> Draft | None:
    """The draft that was written out so; `None` where something is of another kind than it should be."""
    if not isinstance(content, dict):
        return None
    usual = asdict(Draft())
    draft = Draft(**{name: value for name, value in content.items() if name in usual})
    kinds = {name: int | None if value is None else type(value) for name, value in usual.items()}
    whole = all(isinstance(getattr(draft, name), kind) for name, kind in kinds.items())
    return draft if whole and all(isinstance(own, dict) for own in draft.settings.values()) else None


def recent(kind: str) -> list[str]:
    """Models or data used last, the newest first. `kind` is `model` or `data`."""
    names = userstate.recall("recent.json").get(kind)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def used(draft: Draft) -> None:
    """A run was started from it: remember what it used, and begin anew next time."""
    now = {"model": draft.model, "data": draft.data}
    userstate.keep("recent.json", {k: [v, *(n for n in recent(k) if n != v)][:MOST_RECENT] for k, v in now.items() if v})
    keep(Draft())
