"""Reading foreign JSON: what is wrong in a detail must not cost the whole."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler, WrapValidator


def _or_none(value: Any, parse: ValidatorFunctionWrapHandler) -> Any:
    try:
        return parse(value)
    except ValidationError:
        return None


T = TypeVar("T")
# A nicety of an unforeseen shape must not cost the whole list.
Nice = Annotated[T | None, WrapValidator(_or_none)]


def fits(shape: type[BaseModel], body: object) -> bool:
    """Whether a body has this shape."""
    try:
        shape.model_validate(body)
    except ValidationError:
        return False
    return True
