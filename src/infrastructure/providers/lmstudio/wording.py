"""How the server is spoken of: LM Studio, or the engine that comes with this program."""

from core.models import ProviderKind
from infrastructure.providers.wording import Wording, named

NAME = "lmstudio"
LM_STUDIO = Wording(
    who="LM Studio",
    it="LM Studio",
    start="Start LM Studio's server: Developer tab, or 'lms server start'.",
    get_model="Download a model in LM Studio, or with 'lms get'.",
    token="Create a token in LM Studio's server settings and put it into LM Desk's.",
    permit="Give the API token the permission in LM Studio's server settings.",
    template="Choose another template in LM Studio, or another model.",
)
ENGINE = Wording(
    who="The built-in engine",
    it="the built-in engine",
    start="Restart LM Desk, or start the engine by hand with 'lmdesk engine'.",
    get_model="Put a GGUF file into the models folder.",
)


def wording(kind: ProviderKind, name: str = NAME) -> Wording:
    """The words for this kind of provider under this name."""
    return ENGINE if kind == "embedded" else named(LM_STUDIO, name, usual=NAME)
