"""Plans of models that write, on the example conversations."""

from pathlib import Path
from typing import Any

from recommender.plan import Plan

EXAMPLES = Path(__file__).parents[3] / "examples"


def plan_of(model: Path, method: str = "full", *, task: str = "chat", data: dict[str, Any] | None = None, **fields: Any) -> Plan:
    rows = {
        "train": str(EXAMPLES / "chat-train.jsonl"),
        "eval": str(EXAMPLES / "chat-heldout.jsonl"),
        "layout": "messages",
        "columns": {"messages": "messages"},
        "train_rows": 40,
        "eval_rows": 12,
        "validation_rows": 6,
    }
    adapter = {} if method == "full" else {"rank": 4, "alpha": 8, "target_modules": "all-linear", "dropout": 0.0}
    content = {
        "model": {"id": str(model)},
        "data": rows | (data or {}),
        "task": task,
        "method": method,
        "learning_rate": 3e-3,
        "epochs": 1.5,
        "effective_batch": 8,
        "max_length": 192,
        "token_budget": 1024,
        "evaluations": 3,
        "early_stopping": False,
    }
    return Plan.model_validate(content | adapter | fields)
