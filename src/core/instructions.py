"""Instructions with variables, filled in when an answer begins."""

import re
from datetime import datetime
from typing import Final

from core.models import ModelInfo

VARIABLES: Final = {
    "date": "today's date, such as 2026-11-21",
    "time": "the time of day, such as 14:05",
    "weekday": "the day of the week, such as Saturday",
    "agent": "the agent's name",
    "model": "the model that answers",
}
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def filled(instructions: str, *, agent: str, model: ModelInfo, now: datetime) -> str:
    """The instructions with every known variable in its place; others stay as they stand."""
    known = {
        "date": f"{now:%Y-%m-%d}",
        "time": f"{now:%H:%M}",
        "weekday": _DAYS[now.weekday()],
        "agent": agent,
        "model": model.name,
    }
    return _PLACE.sub(lambda place: known.get(place[1].casefold(), place[0]), instructions)


def unknown_variables(instructions: str) -> list[str]:
    """Variables in it that are none, in order and once each."""
    names = (place[1] for place in _PLACE.finditer(instructions))
    return list(dict.fromkeys(name for name in names if name.casefold() not in VARIABLES))
