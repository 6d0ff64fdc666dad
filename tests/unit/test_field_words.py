"""What is wrong with a field is said in a person's words, with the field's name."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from api.field_words import field_of, words_of
from core.value import Value


class Part(Value):
    size: float = Field(default=1, gt=0, lt=2.5, allow_inf_nan=False)


class Asked(Value):
    name: str = Field(default="x", min_length=1, max_length=8)
    count: Annotated[int, Field(ge=1, le=10_000_000)] = 1
    steps: tuple[Part, ...] = Field(default=(), max_length=2)
    when: Literal["idle", "now"] = "now"
    on: bool = True

    @field_validator("name")
    @classmethod
    def polite(cls, name: str) -> str:
        if name == "rude":
            raise ValueError("Say it nicely.")
        return name


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"steps": [{}, {}, {}]}, "steps", "steps takes at most 2 items."),
        ({"name": "123456789"}, "name", "name takes at most 8 characters."),
        ({"name": ""}, "name", "name must not be empty."),
        ({"name": "rude"}, "name", "name: Say it nicely."),
        ({"name": "\ud83d"}, "name", "name holds what cannot be read."),
        ({"name": 5}, "name", "name has to be text."),
        ({"count": 0}, "count", "count has to be at least 1."),
        ({"count": 10**8}, "count", "count has to be at most 10,000,000."),
        ({"count": "many"}, "count", "count has to be a whole number."),
        ({"count": "9" * 5000}, "count", "count holds what cannot be read."),
        ({"steps": 1}, "steps", "steps has to be a list."),
        ({"steps": [{"size": 0}]}, "steps.0.size", "steps.0.size has to be more than 0."),
        ({"steps": [{"size": 3}]}, "steps.0.size", "steps.0.size has to be less than 2.5."),
        ({"when": "soon"}, "when", "when has to be 'idle' or 'now'."),
        ({"on": "perhaps"}, "on", "on has to be true or false."),
        ({"nmae": "x"}, "nmae", "nmae is not known here."),
        ([], "", "The body has to be an object."),
    ],
)
def test_each_mistake_has_a_plain_sentence(body: Any, field: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Asked).validate_python(body)
    error = dict(caught.value.errors()[0])
    error["loc"] = ("body", *caught.value.errors()[0]["loc"])

    assert (field_of(error), words_of(error)) == (field, words)
    assert "nput should" not in words_of(error)


def test_a_field_that_is_called_like_its_place_keeps_its_name() -> None:
    assert field_of({"loc": ("body", "query")}) == "query"
