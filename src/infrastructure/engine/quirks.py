"""Known oddities of LM Studio that an engine plays on request, so that a client can be tried on them.

Each is a word of `--quirk`; none but the first is on by itself.
"""

from typing import Final, Literal, get_args

Quirk = Literal[
    "single-model-answers-any-name",
    "jit-race-loads-twice",
    "silent-empty-stream-on-overflow",
    "string-stream-errors",
    "object-stream-errors",
    "unknown-routes-404",
    "guardrail-refuses",
    "evict-mid-answer",
    "load-lies",
    "no-websocket",
]

EXPLAINED: Final[dict[Quirk, str]] = {
    "single-model-answers-any-name": (
        "the only loaded model answers under whatever name is asked for (on by default)"
    ),
    "jit-race-loads-twice": "requests at once for a model that is not loaded load it once each",
    "silent-empty-stream-on-overflow": (
        "a stream whose prompt is too long is 200, [DONE] and nothing else"
    ),
    "string-stream-errors": (
        "what goes wrong with a stream comes inside it, after the 200, as a bare text"
    ),
    "object-stream-errors": (
        "what goes wrong with a stream comes inside it, after the 200, as an `error` event"
    ),
    "unknown-routes-404": "an unknown route is 404 instead of 200",
    "guardrail-refuses": "every load is refused as too large for the machine",
    "evict-mid-answer": "a load on demand ends the model before it though that one is answering",
    "load-lies": "a load reports success at once and loads nothing",
    "no-websocket": "the WebSocket is refused, as by a proxy that passes only HTTP",
}
DEFAULT: Final[frozenset[Quirk]] = frozenset({"single-model-answers-any-name"})
NAMES: Final[tuple[Quirk, ...]] = get_args(Quirk)
GUARDRAIL: Final = (
    "Model loading was stopped due to insufficient system resources. Continuing to load the model "
    "would likely overload your system and cause it to freeze. If you think this is incorrect, you "
    "can adjust the model loading guardrails in settings."
)
"""LM Studio's own text, to the letter."""


def explained() -> str:
    """For `--help`."""
    return "\n".join(f"  {name}\n      {what}" for name, what in EXPLAINED.items())
