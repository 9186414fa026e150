"""`NAME=VALUE`, as it is typed after `--set`."""


def field_of(assignment: str) -> str:
    """The field that it sets, by its own name: `folds` of `data.folds=3`. No two fields of a plan share one."""
    return assignment.partition("=")[0].strip().rpartition(".")[2]


def as_typed(value: object) -> str:
    """How a field's value is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value)
