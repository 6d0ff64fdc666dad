"""Every error has a word of its own and a status."""

from api.errors import status_of
from core.errors import DeskError


def tree(cls: type[DeskError] = DeskError) -> list[type[DeskError]]:
    return [cls, *(below for child in cls.__subclasses__() for below in tree(child))]


def test_each_error_has_its_own_code() -> None:
    core = [cls for cls in tree() if cls.__module__ == "core.errors"]
    codes = [cls.code for cls in core]

    assert len(core) > 20
    assert len(set(codes)) == len(codes)


def test_an_error_that_took_over_a_code_gets_that_codes_status() -> None:
    error = DeskError("It needs 24 GB.")
    error.code = "not_enough_memory"  # type: ignore[misc]

    assert status_of(error) == 507
