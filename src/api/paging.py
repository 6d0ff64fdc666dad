"""How far into a list a page may begin."""

from typing import Annotated

from fastapi import Query

# Far behind every list's end, and a number the database still takes.
MAX_OFFSET = 1_000_000_000
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET)]
