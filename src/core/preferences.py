"""ModelPreferences: which models a person wants for what, and where may be gone when none can be had."""

from typing import Literal, get_args

from pydantic import Field

from core.value import Value

Task = Literal["coding", "research", "creative", "analysis", "general"]
TASKS: tuple[Task, ...] = get_args(Task)
AUTO = "auto"


class ModelPreferences(Value):
    """What a person said about choosing models. The defaults leave it all to LM Desk."""

    default: str = AUTO
    """The model of a chat that names none: `auto`, or a model's full or bare name."""
    by_task: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """For a task of TASKS the models wanted, best first: names or patterns such as `*coder*`."""
    remote_fallback: tuple[str, ...] = ()
    """Names of remote providers that may answer when no local one can; empty means never."""
