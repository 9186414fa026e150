"""The health watch of a run: what it finds is told, and ends the training where going on would do damage."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine import checkpoints
from engine.events import read_events
from engine.files import json_object, read_json
from engine.findings import Finding
from engine.rundir import RunDirectory
from engine.worker.health import Health, Step, replay
from engine.worker.narrator import Narrator
from recommender.errors import TrainingFailed


@dataclass(frozen=True, slots=True)
class Watch:
    """Looks at a run while it trains."""

    run: RunDirectory
    health: Health
    tell: Narrator

    def begin(self, step: int) -> None:
        """Before the first step after `step`: take in what the run has shown so far."""
        before = self.run.scores / "before.json"
        self.health.given = read_json(before, None)["score"]["loss"] if before.exists() else None
        if step:
            replay(self.health, read_events(self.run.events), step)

    def step(self, step: Step) -> None:
        """Look at a step.

        Raises:
            TrainingFailed: going on would only do damage.
        """
        for finding in self.health.see(step):
            self.say(finding)

    def evaluated(self, step: int, loss: float) -> None:
        """Look at the validation loss after a step."""
        finding = self.health.evaluated(step, loss)
        if finding is not None:
            self.say(finding)

    def say(self, finding: Finding) -> None:
        """Warn of it, or end the training.

        Raises:
            TrainingFailed: it is to be stopped.
        """
        # A pilot tries other rates already.
        cure = "" if finding.code == "no_progress" and self._in_pilot() else finding.cure
        advice = f"`--set {finding.setting}` would be a safer choice." if finding.setting else ""
        if not finding.stop:
            text = " ".join(part for part in (finding.text, cure, advice) if part)
            self.tell.warn(finding.code, text, **finding.facts)
            return
        self.tell.warn(finding.code, finding.text, **finding.facts)
        raise TrainingFailed(finding.text, self._cure(finding), finding.setting or None)

    def not_a_number(self, what: str, step: int, rows: Sequence[str] = ()) -> None:
        """End the training: its loss or its gradient is no number, for those `rows` alone where there are any.

        Raises:
            TrainingFailed: always.
        """
        self.say(self.health.not_a_number(what, step, rows))

    def _in_pilot(self) -> bool:
        return self.run.group is not None and (json_object(self.run.group / "group.json") or {}).get("kind") == "pilot"

    def _cure(self, finding: Finding) -> str:
        """What to do, as a command; and what is kept."""
        parts = [finding.cure] if finding.cure else []
        if finding.setting:
            parts.append(f"`loracle run {self.run.path / 'plan.yaml'} --set {finding.setting}` starts over with a safer setting.")
        kept = checkpoints.sealed(self.run.checkpoints)
        if kept:
            state = read_json(kept[0] / "trainer_state.json")
            best = state.get("best_global_step") or checkpoints.step_of(kept[0])
            folder = checkpoints.folder_of(self.run.checkpoints, best)
            if self.health.ruined(best):
                parts.append(f"The last saved checkpoint, of step {best}, is worse than the untouched model.")
            else:
                parts.append(f"The best weights so far, of step {best}, are kept in {folder}.")
        return " ".join(parts)
