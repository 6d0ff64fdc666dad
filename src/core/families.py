"""What a model's name says about it, for where its provider says nothing."""

import math
import re
from functools import lru_cache
from typing import NamedTuple

from core.models import ModelInfo

_CODER = re.compile(r"code|coder|devstral|starcoder|codestral|swe-")
_THINKER = re.compile(r"(?:^|[-_/.])r1\b|qwq|think|reason|magistral|gpt-oss|\bo[134](?:-|$)|qwen3")
_VISION = re.compile(
    r"vision|[-_]vl\b|\bvl[-_]|llava|pixtral|gemma-?3(?!.*(?:270m|1b))|minicpm-v|moondream|smolvlm"
    r"|internvl|gpt-4o|gpt-5|claude|gemini|llama-?4"
)
_TOOLS = re.compile(
    r"qwen-?(?:2\.5|3)|llama-?(?:3\.[123]|4)|mistral|ministral|devstral|magistral|hermes|command-r"
    r"|granite|gpt-|firefunction|functionary|glm-4|kimi|deepseek-(?:v3|chat)|phi-4|claude|gemini"
)
_WRITER = re.compile(r"story|writer|creative|roleplay|mythomax|nemo|gemma|hermes")
_BASE = re.compile(r"[-_](?:base|pt)\b")
_SIZE = re.compile(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)\s?([bm])(?![a-z])", re.IGNORECASE)


# More models than any list has.
NAMES_KEPT = 20_000


class Traits(NamedTuple):
    """What a name suggests."""

    coder: bool = False
    thinker: bool = False
    vision: bool = False
    tools: bool = False
    writer: bool = False
    base: bool = False
    """Not made for conversations."""


@lru_cache(maxsize=NAMES_KEPT)
def traits(model_id: str) -> Traits:
    """From the id alone."""
    name = model_id.casefold()
    return Traits(
        coder=bool(_CODER.search(name)),
        thinker=bool(_THINKER.search(name)),
        vision=bool(_VISION.search(name)),
        tools=bool(_TOOLS.search(name)),
        writer=bool(_WRITER.search(name)),
        base=bool(_BASE.search(name)),
    )


def has_vision(model: ModelInfo) -> bool:
    """What the provider says; where it says nothing, what the name suggests."""
    said = model.capabilities.vision
    return traits(model.id).vision if said is None else said


def has_tools(model: ModelInfo) -> bool:
    """The same for the use of tools."""
    said = model.capabilities.tools
    return traits(model.id).tools if said is None else said


def has_reasoning(model: ModelInfo) -> bool:
    """The same for thinking before it answers."""
    said = model.capabilities.reasoning
    return traits(model.id).thinker if said is None else said


def billions(model: ModelInfo) -> float | None:
    """Parameters, from what the provider says, the name, or the file's size."""
    return _billions(model.parameters, model.id, model.size_bytes)


@lru_cache(maxsize=NAMES_KEPT)
def _billions(parameters: str | None, model_id: str, size_bytes: int | None) -> float | None:
    for text in (parameters, model_id):
        if text and (found := _SIZE.search(text)):
            count = float(found[2]) * (int(found[1]) if found[1] else 1)
            return count / 1000 if found[3].casefold() == "m" else count
    if size_bytes:
        return size_bytes / 0.6e9  # about five bits a weight, as most files have
    return None


def size_points(model: ModelInfo) -> float:
    """Larger ones know more; each doubling counts the same. 0 for 1B, 15 for 8B."""
    count = billions(model)
    return 0.0 if not count else max(-15.0, min(35.0, 5 * math.log2(count)))
