"""The methods, tasks and purposes that there are, for the command line too: imports next to nothing."""

from typing import Literal, get_args

Method = Literal["full", "lora", "qlora"]
METHODS: tuple[Method, ...] = get_args(Method)
Task = Literal[
    "classification",
    "multi_label",
    "regression",
    "token_classification",
    "instruction",
    "chat",
    "preference",
    "seq2seq",
    "continued_pretraining",
]
TASKS: tuple[Task, ...] = get_args(Task)
Purpose = Literal["task", "assistant", "style", "knowledge", "domain", "code"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
