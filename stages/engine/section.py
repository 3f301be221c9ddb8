"""What sections of params.yaml are made of: types of their values, and what all of them refuse."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[a-z][a-z0-9_]*$"
A_NAME = "a name of small letters, digits and _ that begins with a letter"
Name = Annotated[str, Field(pattern=NAME)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, types are not bent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)
