"""How long it takes to write answers, which a model that writes does before and after its training: a token at a time."""

from recommender.counting import is_labelled, split_of, trained_tokens
from recommender.facts import DataFacts, Facts
from recommender.recommendation import Method, Settings
from recommender.shape import Shape

ANSWERS: dict[str, int] = {"chat": 32, "instruction": 32, "seq2seq": 100}
"""Held-out rows, by task, whose answers a model writes before and after training: a token at a time takes long. Fewer where a
question has many good answers, and perplexity tells more."""
ANSWER_TOKENS = 256
"""The longest of them; an untuned model seldom comes to an end before."""
ANSWERS_AT_ONCE = 4
"""Token budgets that are written at once: nothing but the cache is kept, and every step reads all weights. On a CPU 22 rows of
SmolLM2 at once are 1.6 times as fast as 5, with the same peak of memory."""
WRITING_SECONDS, WRITING_SHARE = 60.0, 0.05
"""What may be spent on them before the training: so many seconds, or that share of the whole run where it is more. Fewer rows are
asked where they would take longer; after the training the same ones."""
SAMPLES, SAMPLE_TOKENS = 6, 80
"""Sample answers before and after, and their tokens: enough to see whether the form is learned, few enough to be read."""
SAMPLES_SECONDS = 20.0
"""What may be spent on these before the training: they show more than they prove."""
CPU_BANDWIDTH = 10e9
"""Bytes a second that two shared cores read weights with while they write, where nobody has measured it."""
SLOWER: dict[Method, float] = {"full": 1.0, "lora": 1.15, "qlora": 1.6}
"""Times as long with adapters beside the weights, and where each token unpacks 4-bit ones: SmolLM2 wrote 6 rows at once in 0.06 s
a token in full, 0.06 to 0.07 with LoRA and 0.10 to 0.14 with QLoRA (fp32, two cores)."""
APART = 2.0
"""Times as long as one that is only scored a token takes that is written: those of a step lie in rows of their own, each with a
cache, and products are narrow. 1.2 to 2.2 were measured of SmolLM2 with 1 to 32 rows."""
LAYER_SECONDS = 0.9e-3
"""Of a layer on a GPU for each token: the time goes into starting kernels. What transformers' `generate` takes."""


def longest_answer(data: DataFacts, longest: int) -> int:
    """Tokens of the longest of a few answers, in rows of `longest` tokens: as many are written at most."""
    if data.task == "seq2seq" and data.written_tokens_max:
        answer = data.written_tokens_max
    else:
        answer = round(longest * min(trained_tokens(data) / data.tokens_total, 1.0)) if data.tokens_total else longest
    return max(min(ANSWER_TOKENS, longest, answer), 1)


def writing(facts: Facts, shape: Shape, method: Method, settings: Settings, token: float) -> tuple[float, float]:
    """Seconds in which answers, and sample answers, are written before or after; a token that is only scored takes `token`
    seconds."""
    data, on_cpu = facts.data, facts.machine.device is None
    held_out = data.eval_rows or split_of(data).held_out
    if is_labelled(data):
        return 0.0, 0.0
    longest = min(data.tokens_p95 or settings.max_length, settings.max_length)
    answer = longest_answer(data, longest)
    asked = (data.tokens_p50 or longest) * (1 - answer / max(longest, 1))
    reading = 4 * shape.parameters / (facts.measured.bandwidth or CPU_BANDWIDTH) * SLOWER[method]

    def take(answers: int, new: int) -> float:
        pieces = -(-answers // max(1, ANSWERS_AT_ONCE * settings.token_budget // max(longest, new)))
        if not on_cpu:
            return pieces * new * shape.blocks * LAYER_SECONDS * SLOWER[method]
        return new * (pieces * reading + answers * APART * token) + answers * asked * token

    return take(min(ANSWERS.get(data.task or "", 0), held_out), answer), take(min(SAMPLES, held_out), SAMPLE_TOKENS)


def writing_seconds(run: float) -> float:
    """Seconds that answers may take before the training of a run of so many seconds."""
    return max(WRITING_SECONDS, WRITING_SHARE * run)
