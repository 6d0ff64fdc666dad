"""Agents: named ways of working."""

from core.chat import Parameters
from core.value import Value


class Agent(Value):
    """Instructions and parameters under a name."""

    id: str
    name: str
    description: str
    instructions: str
    parameters: Parameters = Parameters()
    models: tuple[str, ...] = ()
    """Models it wants, best first: names or patterns such as `*coder*`. They weigh most for `auto`,
    and answer when the model asked for fails before its first word."""
    starters: tuple[str, ...] = ()
    """Three first messages for an empty chat."""
    builtin: bool = False
    strict: bool = False
    """An answer from another model than the one asked for is a failure."""
