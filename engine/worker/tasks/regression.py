"""A number a row: the mean squared error over rows."""

from typing import Any

import numpy as np
import torch

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.worker import baselines
from engine.worker.tasks.base import Answer, Encoded, Progress
from engine.worker.tasks.heads import RowHead

USE = """\
import torch

model.eval()
{inputs}with torch.no_grad():
    output = model(**inputs).logits.item()
print(output * model.config.target_sd + model.config.target_mean)  # in the units of the training data
"""


class Regression(RowHead):
    """Sequence regression with one number a row.

    The model says how many standard deviations a number lies from the mean of the training rows. Both stay in its
    configuration (`target_mean`, `target_sd`) rather than being folded into the head: half of the heads have no bias, and
    with weights in 16 bit a bias of 2,000 would round every answer to a multiple of 8.
    """

    purpose = "tell a number"
    use = USE

    mean = 0.0
    sd = 1.0
    """Of the training rows, in the units of the data."""

    def config_options(self) -> dict[str, Any]:
        """One output."""
        return {"num_labels": 1, "problem_type": "regression"}

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Targets are numbers in the units of the data."""
        targets = [float(number) for number in rows.items or ()]
        return self.encoded(tokenizer, rows, targets, progress)

    def prepare(self, train: Encoded, device: torch.device) -> None:
        """Mean and standard deviation of the numbers."""
        self.mean, self.sd = float(np.mean(train.targets)), float(np.std(train.targets))

    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Squared error in standard deviations."""
        return self._errors(self._outputs(model, input_ids), targets).square().sum()

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """The number in the units of the data; the loss is in squared standard deviations."""
        outputs = self._outputs(model, input_ids)
        losses = self._errors(outputs, targets).square().tolist()
        return [Answer(x * self.sd + self.mean, loss) for x, loss in zip(outputs.tolist(), losses, strict=True)]

    def finish(self, model: Any) -> None:
        """What makes a number of an output; whoever sees the output alone (`pipeline` does) is told what it counts."""
        model.config.target_mean, model.config.target_sd = self.mean, self.sd
        counts = f"standard deviations of {self.sd:.6g} above {self.mean:.6g}"
        model.config.id2label, model.config.label2id = {0: counts}, {counts: 0}

    def constant(self, train: Encoded, held_out: Encoded) -> Answers:
        """The mean of the training rows."""
        return Answers([self.mean] * len(held_out), None)

    def probe(self, seen: Any, train: list[Any], shown: Any, held_out: list[Any]) -> Answers:
        """A ridge regression."""
        found = baselines.probe_numbers(seen, (np.asarray(train) - self.mean) / self.sd, shown)
        losses = (found - (np.asarray(held_out) - self.mean) / self.sd) ** 2
        return Answers((found * self.sd + self.mean).tolist(), losses.tolist())

    def about(self) -> str:
        """What an output means."""
        return (
            "The output, which `pipeline` and servers give as it is, counts standard deviations from the mean of the training\n"
            f"rows (mean {self.mean:.6g}, standard deviation {self.sd:.6g}; `target_mean` and `target_sd` in `config.json`).\n"
        )

    def _outputs(self, model: Any, input_ids: list[list[int]]) -> torch.Tensor:
        return self.logits(model, input_ids).squeeze(-1)

    def _errors(self, outputs: torch.Tensor, targets: list[Any]) -> torch.Tensor:
        # Standardised before it becomes fp32: numbers far from zero would lose their digits.
        wanted = (np.asarray(targets, dtype=float) - self.mean) / self.sd
        return outputs - torch.tensor(wanted, dtype=outputs.dtype, device=outputs.device)
