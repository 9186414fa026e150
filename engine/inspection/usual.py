"""What columns are usually called, by the part they play."""

from engine.inspection.columns import TEXT_NAMES

PROMPTS = ("prompt", "question", "query", "input", "instruction", "problem", "user", "human", "request")
COMPLETIONS = ("completion", "response", "answer", "output", "solution", "reply", "assistant", "generation", "target")
CONTEXTS = ("context", "passage", "paragraph", "background")
"""What is read beside a question."""
SOURCES = ("document", "article", "text", "source", "src", "dialogue", "dialog", "report", "source_text", "input_text")
TARGETS = (
    *("summary", "highlights", "target", "tgt", "abstract", "headline", "target_text", "output_text", "translation", "corrected"),
    "simple",
)
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
)
NUMBERS = ("score", "rating", "price", "value", "similarity", "label", "target", "y", "stars", "grade", "points", "age", "count")
_CODES = "ar bg cs da de el en es et fa fi fr he hi hr hu id it ja ko nl no pl pt ro ru sk sv th tr uk vi zh"
LANGUAGES = frozenset(_CODES.split())
RAW = TEXT_NAMES | {"raw_content", "markdown", "code", "article", "page", "passage", "story", "abstract"}
