"""What the API takes and gives of the event catalogue; see `models`."""

from typing import Any

from pydantic import Field

from hookbrook.http.models import Model, Next


class TypeIn(Model):
    """A kind of event."""

    name: str = Field(description="As events name it.", examples=["invoice.paid"])
    tenant: str | None = Field(
        default=None,
        description="Whose type it is; `*` is every tenant's, whose own ones come first. Cannot be changed.",
    )
    description: str = ""
    json_schema: Any = Field(default=None, alias="schema", description="JSON Schema 2020-12 of the data.")
    example: Any = Field(default=None, description="Data of such an event; must fit the schema.")
    check_data: bool = Field(
        default=False, alias="validate", description="Refuse what is published of this type unless it fits the schema."
    )
    deprecated: bool = False
    archived: bool = Field(default=False, description="Not shown in the exports any more, nor validated.")


class TypeOut(TypeIn):
    id: str
    tenant: str
    declared: bool = Field(description="Declared in hookbrook.toml, and therefore read-only here.")
    created_at: str
    updated_at: str


class TypeList(Model):
    data: list[TypeOut]
    next: Next
