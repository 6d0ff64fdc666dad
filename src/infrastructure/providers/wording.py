"""How a server is spoken of: by its kind's name, and by the configured one where that says more."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Wording:
    """The words that differ from kind to kind."""

    who: str
    """Opens a sentence."""
    it: str
    """Within a sentence."""
    start: str
    """What to do when nothing answers."""
    get_model: str
    """What to do when there is nothing to serve."""
    token: str = "Check the token in LM Desk's settings, or create a new one."
    """What to do when the token is missing or wrong."""
    permit: str = "Use a token that has the permission."
    """What to do when the token may not do this."""
    template: str = "Choose another model, or give this one another prompt template."
    """What to do when a prompt template fails."""


def named(words: Wording, name: str, *, usual: str) -> Wording:
    """The words with the configured name, so that of several servers it is clear which is meant."""
    if name == usual:
        return words
    return replace(words, who=f"{words.who} ({name})", it=f"{words.it} ({name})")
