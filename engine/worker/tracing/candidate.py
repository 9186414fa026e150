"""One step of a recommendation's candidate, traced at some depth and size, and timed."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from engine.prediction import sizes
from engine.prediction.deeper import SHALLOW, Unlike, extended
from engine.prediction.stream import Segment
from engine.worker import layout, token_loss
from engine.worker.tracing import dynamic, models, work
from engine.worker.tracing.kernels import Card
from engine.worker.tracing.own import HEADS, OwnLoop
from engine.worker.tracing.pieces import in_pieces, watched, with_sums
from engine.worker.tracing.predicted import own_speed
from engine.worker.tracing.steps import learned_share, read_share
from engine.worker.tracing.timed import Calls, starting
from engine.worker.tracing.trace import Traced, trace
from recommender.errors import LoracleError
from recommender.facts import Facts
from recommender.fitted import Sizes, Ways
from recommender.footprint import loss_chunk
from recommender.plan import Plan
from recommender.step import waited_for
from recommender.tiles import TILE

UNTRACEABLE = (LoracleError, RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError, KeyError, IndexError)
_TRIED: dict[Any, float] = {}
"""Seconds of operations that were tried in this process: methods share most of them."""
TRYING = 3.0
"""Seconds that are spent on finding out how long a method's operations take; where they do not suffice the formula tells."""
TRIED = 3
"""Neighbouring sizes that are traced until one takes the same way."""

Builds = Mapping[int | None, Callable[[Any], OwnLoop]]
"""By the depth that is traced, `None` for the model's own."""
ByPhase = Mapping[int | None, dict[str, float] | None]


class CandidateStep:
    """One candidate's step, to be traced at some depth and at its size or a neighbouring one."""

    def __init__(self, facts: Facts, one: dict[str, Any], card: Card, learned: float | None = None) -> None:
        self._facts, self._one, self._card, self._config = facts, one, card, facts.model.config or {}
        self._share, self._read = learned_share(facts) if learned is None else learned, read_share(facts)
        self._built = models.config_of(self._config)
        text = self._built.get_text_config()
        apart = bool(getattr(self._built, "is_encoder_decoder", False)) and HEADS[one["task"]] == "causal_lm"
        sides = (facts.data.read_tokens_max or 0, facts.data.written_tokens_max or 0) if apart else (0, 0)
        self.ways = Ways(self._share, 0, 0, 0, int(getattr(text, "num_attention_heads", 1)), False, False, apart, *sides)
        self._longest = int(getattr(text, "max_position_embeddings", 0) or 1 << 20)
        self._words = int(text.vocab_size)
        self._keys = int(getattr(text, "num_key_value_heads", 0) or self.ways.heads)
        self._pieces: list[int] = []
        self._marked = False
        self.packed = False
        """Whether sequences lay end to end in what was traced last."""
        self._learned: dict[int | None, tuple[int, int]] = {}
        """By the depths that were traced."""
        self.grows: Sizes | None = None
        """The step's sizes, where its blocks say how they grow."""

    @property
    def is_timed(self) -> bool:
        """Whether it is to be told how long it takes."""
        return bool(self._one.get("everyday"))

    def in_seconds(self) -> dict[str, Any]:
        """Under `seconds` what `timed` tells, if anything: its memory is known even so."""
        with contextlib.suppress(*UNTRACEABLE):
            if (seconds := self.timed()) is not None:
                return {"seconds": seconds}
        return {}

    def timed(self) -> dict[str, float] | None:
        """Seconds of a token in training and in scoring and of the optimizer's step, `waited` where host and card wait for each
        other in it; the operations that a micro-batch in training and in scoring and the optimizer start, the seconds that
        starting one takes, and the tokens of the micro-batch. It is an everyday one: the step that memory is counted of has the
        longest rows."""
        lengths = self._everyday()
        learned = self._share / (2 if self._one["task"] == "preference" else 1)  # counted are both answers, but one sequence
        everyday: dict[str, Any] = {"lengths": lengths, "learned": learned, "alike": True, "steps": 1, **self._apart()}
        depths = [None] if None in self._learned else self._learned
        builds = {layers: partial(self._loop, one=self._one, layers=layers, **everyday) for layers in depths}
        seconds, begun, start = (self._tried if self._card.kind == "cpu" else self._worked_out)(builds)
        whole, starts = self._at_depth(seconds), self._at_depth(begun)
        if whole is None or starts is None:
            return None
        (update, scored), (updating, scoring) = (
            [of.pop(phase, 0.0) for phase in ("optimizer", "evaluation")] for of in (whole, starts)
        )
        waited = 0.0
        if self._card.kind == "cuda" and waited_for(self._one["settings"]["optimizer"]):
            waited, update, updating = update + start * updating, 0.0, 0.0
        return {
            "train": sum(whole.values()) / sum(lengths),
            "update": update,
            "waited": waited,
            "evaluate": scored / sum(lengths),
            "train_starts": sum(starts.values()),
            "update_starts": updating,
            "evaluate_starts": scoring,
            "starting": start,
            "tokens": sum(lengths),
        }

    def _tried(self, builds: Builds) -> tuple[ByPhase, ByPhase, float]:
        """Seconds of the operations and how many start, by depth and phase, and the seconds of a start: each was run here."""
        calls = {layers: Calls() for layers in builds}
        for layers, build in builds.items():
            trace(build, self._card, calls=calls[layers])
        seconds = {layers: noted.seconds(_TRIED, within=TRYING) for layers, noted in calls.items()}
        return seconds, {layers: noted.starts() for layers, noted in calls.items()}, starting()

    def _worked_out(self, builds: Builds) -> tuple[ByPhase, ByPhase, float]:
        """The same of a card, by its speeds and its host's."""
        speed = own_speed(self._facts, plan_of(self._one).precision)
        done = {layers: work.by_phase(trace(build, self._card).recorded, speed) for layers, build in builds.items()}
        seconds = {layers: {phase: told.busy for phase, told in of.items()} for layers, of in done.items()}
        begun = {layers: {phase: told.started for phase, told in of.items()} for layers, of in done.items()}
        return seconds, begun, speed.launch

    def _everyday(self) -> list[int]:
        """Tokens of an everyday micro-batch's sequences; with padding those of one micro-batch are alike, and the average token
        is in a longer one than the average sequence."""
        lengths: list[int] = self._one["everyday"]
        if self.packed:
            return lengths
        together = 2 if self._one["task"] == "preference" else 1
        alike = round(sum(n * n for n in lengths) / sum(lengths))
        return [alike] * together * max(round(sum(lengths) / alike / together), 1)

    def _apart(self) -> dict[str, float]:
        """How an encoder-decoder's everyday rows are made: their sides are padded to the longest one's, which nobody has counted.
        Each side is taken to be as uneven as the longer of both."""
        lengths: list[int] = self._one["everyday"]
        return {"read": self._read, "longest": max(lengths) * len(lengths) / sum(lengths)}

    def _at_depth(self, told: ByPhase) -> dict[str, float] | None:
        """Sums by phase at the model's own depth, from those of the traces."""
        whole, (less, more) = told.get(None), (told.get(layers) for layers in SHALLOW)
        if whole is None and less is not None and more is not None:
            return {p: work.at_depth(less[p], more[p], SHALLOW, models.depth_of(self._built)) for p in more}
        return whole

    @property
    def at(self) -> tuple[int, int, int]:
        """Rows, length and rank."""
        return self._one["rows"], self._one["length"], self._one["settings"].get("rank") or 0

    @property
    def pieces(self) -> int:
        """How many micro-batches a step takes: two stand for several."""
        return int(self._one["pieces"])

    @property
    def trained(self) -> list[int]:
        """Parameters that the step trains, and how many each further rank of its adapters adds."""
        if None in self._learned:
            whole, of_rank = self._learned[None]
        else:
            less, more = (self._learned[layers] for layers in SHALLOW)
            depth = models.depth_of(self._built)
            whole, of_rank = (int(work.at_depth(a, b, SHALLOW, depth)) for a, b in zip(less, more, strict=True))
        return [whole, of_rank // max(self._one["settings"].get("rank") or 0, 1)]

    def segments(self, *, fits: bool = False) -> list[Segment]:
        """The stream at the whole depth; with `fits` its blocks have terms, unless no neighbour takes the same way."""
        self._marked = fits
        depth = models.depth_of(self._built)
        shallow = (self._one["settings"].get("last_layers") or 0) <= SHALLOW[0]  # so that the further layers are frozen alike
        length = max(self._one["length"], (self._one.get("padded") or self._one)["length"])
        if depth > SHALLOW[1] + 1 and shallow and models.extendable(self._built, length):
            try:
                less, more = self._traced(SHALLOW[0]).segments, self._traced(SHALLOW[1]).segments
                return extended(less, self._with_terms(more, SHALLOW[1]) if fits else more, depth)
            except Unlike:
                pass
        whole = self._traced(None).segments
        return self._with_terms(whole, None) if fits else whole

    def _with_terms(self, segments: list[Segment], layers: int | None) -> list[Segment]:
        here = self._here()
        together, in_cache = 2 if self._one["task"] == "preference" else 1, self._in_cache if self._card.kind == "cpu" else 0
        near = sizes.neighbours(here, self.ways, self._longest, together, in_cache)
        unlike = set[Sizes]()
        for other, _ in zip(near, range(TRIED), strict=False):
            if (read := other._replace(learned=0, chunk=0)) in unlike:
                continue
            try:
                found = sizes.with_terms(segments, self._traced(layers, other).segments, (here, other))
            except sizes.ReadUnlike:
                unlike.add(read)
                continue
            except Unlike:
                continue
            self.grows = here
            return found
        return segments

    @property
    def _in_cache(self) -> int:
        """Tokens whose logits are worked on together on a CPU."""
        return max(token_loss.TILE // self._words, 1)

    def kept(self, segments: list[Segment], reserved: int) -> dynamic.Kept | None:
        """What an allocator keeps whose segments do not grow, of micro-batches that differ in length."""

        def at(length: int) -> list[Segment]:
            try:
                return CandidateStep(self._facts, self._one | {"length": length}, self._card, self._share).segments()
            except UNTRACEABLE as error:
                raise Unlike("at another length") from error

        return dynamic.kept(segments, reserved, self.at[:2], self._facts.data, at)

    def all_learned(self, segments: list[Segment]) -> list[Segment] | None:
        """The stream if all of the text were learned, where the terms of its blocks tell that."""
        there = self._here(self.ways._replace(share=1.0))
        if self.grows is None or self.ways.apart or self.ways.taken(there) != self.ways.taken(self.grows):
            return None
        return sizes.resized(segments, self.grows, there)

    def _here(self, ways: Ways | None = None) -> Sizes:
        return (ways or self.ways).sizes(*self.at)

    def _traced(self, layers: int | None, other: Sizes | None = None) -> Traced:
        one, share, here = self._one, self._share, other or self._here()
        if other is not None:
            settings = one["settings"] | ({"rank": other.rank} if other.rank else {})
            one = one | {"settings": settings}
            share = other.learned / other.rows / other.length if other.learned else share
        longer = max(here.length, here.written)
        sides = {"learned": here.written / longer, "read": here.length / longer} if here.written else {"learned": share}
        marks: list[Callable[[str], None]] = []

        def build(live: Any) -> OwnLoop:
            marks.append(live.mark)
            made = self._loop(live, one=one, layers=layers, lengths=[longer] * here.rows, pieces=one["pieces"], **sides)
            self.packed = made.packed
            return made

        if other is not None:
            tile = sizes.of_piece(other.chunk, self._here().chunk, self._in_cache) * self._words
            with in_pieces(other, self.ways.heads, self._pieces, tile), watched(marks):
                return with_sums(trace(build, self._card))
        with watched(marks if self._marked else []) as (self._pieces, narrow):
            found = with_sums(trace(build, self._card))
        if not self.packed and self._one.get("padded"):
            self._one = self._one | self._one["padded"] | {"padded": None}
            return self._traced(layers)
        self._learned[layers] = found.trained
        if narrow:
            self.ways = self.ways._replace(causal=self._keys, narrow=narrow[0])
        writes = HEADS[one["task"]] == "causal_lm"
        chunk = loss_chunk(self._words, cpu=self._card.kind == "cpu") if writes else 0
        group = layout.MOST[self._card.kind] if layout.layout.cache_info().misses else 0  # since the trace began: it clears it
        self.ways = self.ways._replace(chunk=chunk, group=group, tile=TILE if self._pieces else 0)
        return found

    def _loop(self, live: Any, *, one: dict[str, Any], layers: int | None, lengths: list[int], **more: Any) -> OwnLoop:
        given = {"learned": self._share, "workspace": self._card.workspace} | more
        return OwnLoop(self._config, plan_of(one), live, lengths=lengths, layers=layers, **given)


def plan_of(one: dict[str, Any]) -> Plan:
    given = {"learning_rate": 1e-4, "epochs": 1, "effective_batch": one.get("rows", 1) * one.get("pieces", 1)} | one["settings"]
    own = {name: value for name, value in given.items() if name in Plan.model_fields and name != "metric"}
    labels = [f"label {i}" for i in range(one["labels"])] if HEADS[one["task"]] != "causal_lm" else []
    data = {"train": "traced", "labels": labels}
    return Plan.model_validate({"model": {"id": "traced"}, "data": data, "task": one["task"], "method": one["method"], **own})
