"""Preferences: direct preference optimisation (DPO, Rafailov et al. 2023), the mean over the pairs of a logical batch.

A pair is read as two sequences, the prompt with the chosen answer and with the rejected one. What both are to the untouched
model is computed once, before the first step (`engine.worker.reference`), for every method alike: a frozen second model would
cost its memory all the time, and switching adapters off a second pass at every step.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from engine.metrics.kinds import Answers
from engine.rows import Rows
from engine.worker.generating import Limits
from engine.worker.packing import learned
from engine.worker.scoring import Reader
from engine.worker.tasks.base import Answer, Begin, Encoded, Progress, Prompt
from engine.worker.tasks.chat import Chat
from engine.worker.tasks.conversation import prompt_of, sides
from engine.worker.tasks.writing import reported
from engine.worker.token_rows import Records, TokenRows
from recommender.errors import InputError


class Preference(Chat):
    """Pairs of a chosen and a rejected answer.

    `input_ids` of a row are both sequences end to end; its target holds their `labels`, the length of the first (`chosen`),
    and the `reference`: what the untouched model says of the two, in nats.
    """

    purpose = "give the preferred answers"
    has_reference = True

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """Each side is cut at the plan's `max_length`; pairs that then have nothing to tell them apart are left out.

        Raises:
            InputError: a conversation that the model's template does not take.
        """
        self.prepare_tokenizer(tokenizer)
        most = self.plan.max_length
        input_ids, labels, first = TokenRows(), TokenRows(), []
        rows_cut = tokens_cut = 0
        untrained: dict[int, bool] = {}
        refused: list[str] = []
        for item, number in reported(zip(rows.items or (), rows.numbers, strict=True), progress):
            try:
                pair = list(sides(tokenizer, item, rows.where(number)).values())
            except InputError as error:
                untrained[number] = False
                refused.append(str(error))
                continue
            lost = sum(max(len(side.ids) - most, 0) for side in pair)
            rows_cut += lost > 0
            tokens_cut += lost
            (chosen, said), (rejected, instead) = ((side.ids[:most], side.labels[:most]) for side in pair)
            if chosen != rejected and learned(said) and learned(instead):
                input_ids.append(chosen + rejected)
                labels.append(said + instead)
                first.append(len(chosen))
            else:
                untrained[number] = lost > 0
            self.note_system(tokenizer, item["messages"] + item["chosen"], item["tools"])
            for side in pair:
                self.note_end(tokenizer, side)
        self.note_asking(tokenizer, rows)
        cut = f"within max_length ({most} tokens) both answers are the same, or one of them has not begun"
        whole = "both answers are the same, or one of them is empty."
        why = self.why_untrained(rows, untrained, refused, cut=cut, whole=whole)
        targets = Records(labels=labels, chosen=first, reference=[[0.0, 0.0]] * len(first))
        return Encoded(input_ids, targets, [0] * len(input_ids), rows_cut, tokens_cut, untrained, why)

    def likelihoods(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """Log-likelihoods of the answers, (pairs, 2), the chosen ones first, in nats."""
        sequences, labels = [], []
        for ids, target in zip(input_ids, targets, strict=True):
            for part in (slice(target["chosen"]), slice(target["chosen"], None)):
                sequences.append(ids[part])
                labels.append(target["labels"][part])
        sums: dict[int, torch.Tensor] = {}
        for some in self.apart(list(map(len, sequences))):
            said = [labels[i] for i in some]
            losses = self.token_losses(model, [sequences[i] for i in some], said)
            sums |= zip(some, (part.sum() for part in losses.split(list(map(learned, said)))), strict=True)
        return -torch.stack([sums[i] for i in range(len(sequences))]).view(-1, 2)

    def total(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """The loss of the pairs, summed; smoothed as the plan says, for pairs that may be the wrong way round."""
        margins = self._rewards(model, input_ids, targets).diff(dim=1)[:, 0].neg()
        wrong = self.plan.label_smoothing
        losses = -(1 - wrong) * functional.logsigmoid(margins) - wrong * functional.logsigmoid(-margins)
        return losses.sum()

    def weight(self, targets: Sequence[Any]) -> float:
        """Pairs of the logical batch."""
        return float(len(targets))

    def answers(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> list[Answer]:
        """Rewards of both answers, and the loss without smoothing; of plain text, which is no pair, what any writer says."""
        if targets and not isinstance(targets[0], dict):
            return super().answers(model, input_ids, targets)
        rewards = self._rewards(model, input_ids, targets)
        losses = -functional.logsigmoid(rewards[:, 0] - rewards[:, 1])
        return [Answer(pair, loss) for pair, loss in zip(rewards.tolist(), losses.tolist(), strict=True)]

    def write_out(
        self, reader: Reader, model: Any, rows: Encoded, said: Answers, begin: Begin, *, limits: Limits
    ) -> tuple[Answers, Limits | None]:
        """Nothing more: pairs are judged without writing."""
        return said, None

    def prompts(self, tokenizer: Any, rows: Rows, most: int) -> Iterator[Prompt]:
        """What both answers go on from."""
        for item, number in zip(rows.items or (), rows.numbers, strict=True):
            whole = {"messages": [*item["messages"], item["chosen"][0]], "tools": item["tools"]}
            asked, ids, wanted = prompt_of(tokenizer, whole, rows.where(number))
            if len(ids) <= most:
                yield Prompt(asked, ids, wanted)

    def about(self) -> str:
        """What was learned, and how strongly it was held to the untouched model."""
        return (
            "It was trained on pairs of answers (DPO) to make the chosen ones more likely than the rejected ones, with beta"
            f" {self.plan.preference_beta:g}; the tokenizer's chat template writes its conversations.\n"
        )

    def _rewards(self, model: Any, input_ids: list[list[int]], targets: list[Any]) -> torch.Tensor:
        """How much likelier the answers have become, times beta, (pairs, 2)."""
        found = self.likelihoods(model, input_ids, targets)
        reference = torch.tensor([target["reference"] for target in targets], dtype=torch.float32, device=found.device)
        return self.plan.preference_beta * (found - reference)
