"""The base of every model that a person or the API server writes: frozen, complete, in camelCase outside."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """
    Immutable, refuses unknown fields, and never shows the input in an error (a secret may stand there).

    Python names are snake_case; the API's names are camelCase.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
        ser_json_timedelta="iso8601",
        use_attribute_docstrings=True,
    )
