"""How the server is spoken of: LM Studio, or the engine that comes with this program."""

from dataclasses import dataclass

from core.models import ProviderKind


@dataclass(frozen=True, slots=True)
class Wording:
    """The words that differ between the two."""

    who: str
    """Opens a sentence."""
    it: str
    """Within a sentence."""
    start: str
    """What to do when nothing answers."""
    get_model: str
    """What to do when there is nothing to serve."""


LM_STUDIO = Wording(
    who="LM Studio",
    it="LM Studio",
    start="Start LM Studio's server: Developer tab, or 'lms server start'.",
    get_model="Download a model in LM Studio, or with 'lms get'.",
)
ENGINE = Wording(
    who="The built-in engine",
    it="the built-in engine",
    start="Restart LM Desk, or start the engine by hand with 'lmdesk engine'.",
    get_model="Put a GGUF file into the models folder.",
)


def wording(kind: ProviderKind) -> Wording:
    """The words for this kind of provider."""
    return ENGINE if kind == "embedded" else LM_STUDIO
