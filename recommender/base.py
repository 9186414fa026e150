"""The kinds of record everything is made of."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Fact(BaseModel):
    """Read-only data about the world. Unknown keys are ignored, so that newer files replay here."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())


class Given(Fact):
    """Facts from outside: `null` means not known wherever it stands."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: Any) -> Any:
        """A field whose default is a value takes it where `null` is given, e.g. `"purpose": null`."""
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if value is not None or not cls._has_value_by_default(name)}

    @classmethod
    def _has_value_by_default(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and not field.is_required() and field.default is not None


class Choice(BaseModel):
    """Read-only data that a person may write by hand. Unknown keys are errors, so that a typo is never a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True, protected_namespaces=())
