"""The two kinds of record everything is made of."""

from pydantic import BaseModel, ConfigDict


class Fact(BaseModel):
    """Read-only data about the world. Unknown keys are ignored, so that newer files replay here."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


class Choice(BaseModel):
    """Read-only data that a person may write by hand. Unknown keys are errors, so that a typo is never a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True, protected_namespaces=())
