"""Measuring: asks a model for things of a known size and times what comes back."""

import random
import time
import uuid
from contextlib import aclosing
from typing import Any, Literal, NamedTuple

from core.chat import Answered, ChatMessage, ChatRequest, MessageDelta, Parameters, ReasoningDelta
from core.leases import Lease
from core.ports import Provider

Measure = Literal["prompt_512", "prompt_2048", "writing_128"]
Phase = Literal["reading", "writing"]

# What a text and its template cost in tokens, where the server does not count: short English words.
GUESSED_TOKENS_A_WORD = 1.3
GUESSED_TEMPLATE = 32
# Two small questions of so many words tell both.
SMALL, LARGE = 16, 64
# A shorter span between first and last token came in one piece.
SHORTEST_SPAN = 0.05
TEXT = (
    "the river runs under a stone bridge and every morning people carry bread fish wool salt paper"
    " across it while boats wait for wind rain or light from far hills where snow falls on old trees"
)
STORY = (
    "Tell a very long story about a lighthouse keeper, with every detail of a single day."
    " Do not stop early. Number {nonce}."
)


class Took(NamedTuple):
    """What one question cost. Seconds are wall time."""

    input_tokens: int | None
    output_tokens: int
    first_seconds: float
    """Until the first token, or the end if none came."""
    writing_seconds: float
    """From the first token to the last."""
    timings: dict[str, Any]
    """The server's own figures, if it gives any."""


class Pace(NamedTuple):
    """One measured speed."""

    tokens: int
    tokens_per_second: float
    by_server: bool
    """Whether the server timed it itself."""


class Sizes(NamedTuple):
    """What words cost as tokens with this model."""

    per_word: float
    template: float

    def words_for(self, tokens: int) -> int:
        """How many words make a prompt of this size, its template included."""
        return max(1, round((tokens - self.template) / self.per_word))

    def tokens_of(self, words: int) -> int:
        return round(words * self.per_word + self.template)


class Measuring:
    """One model under measurement, held by a lease."""

    def __init__(self, provider: Provider, lease: Lease) -> None:
        self._provider = provider
        self._lease = lease
        self._random = random.Random(uuid.uuid4().int)
        self._sizes = Sizes(GUESSED_TOKENS_A_WORD, GUESSED_TEMPLATE)

    async def calibrate(self) -> Sizes:
        """Ask two small things: it wakes the model up and tells what words cost."""
        small = await self._ask(self._text(SMALL), max_tokens=2)
        large = await self._ask(self._text(LARGE), max_tokens=2)
        if small.input_tokens and large.input_tokens and large.input_tokens > small.input_tokens:
            per_word = (large.input_tokens - small.input_tokens) / (LARGE - SMALL)
            self._sizes = Sizes(per_word, max(0.0, small.input_tokens - SMALL * per_word))
        return self._sizes

    async def read(self, tokens: int) -> Pace | None:
        """How fast a prompt of about this size is read; None if nothing can be said."""
        words = self._sizes.words_for(tokens)
        took = await self._ask(self._text(words), max_tokens=2)
        count = took.input_tokens or self._sizes.tokens_of(words)
        if took.input_tokens and took.input_tokens > self._sizes.template:
            # A longer sample of words says better what they cost than the two small ones did.
            template = self._sizes.template
            self._sizes = Sizes((took.input_tokens - template) / words, template)
        read, pace = took.timings.get("prompt_n"), took.timings.get("prompt_per_second")
        # Less than that was read: a cache helped after all.
        if isinstance(read, int) and isinstance(pace, int | float) and read > count * 0.8 > 0:
            return Pace(read, float(pace), True) if pace > 0 else None
        return Pace(count, count / took.first_seconds, False) if took.first_seconds > 0 else None

    async def write(self, tokens: int) -> Pace | None:
        """How fast so many tokens are written; fewer if the model ends earlier."""
        took = await self._ask(STORY.format(nonce=self._random.getrandbits(40)), max_tokens=tokens)
        written, pace = took.timings.get("predicted_n"), took.timings.get("predicted_per_second")
        if isinstance(written, int) and isinstance(pace, int | float) and written > 1 and pace > 0:
            return Pace(written, float(pace), True)
        if took.output_tokens < 2 or took.writing_seconds < SHORTEST_SPAN:
            return None
        return Pace(took.output_tokens, (took.output_tokens - 1) / took.writing_seconds, False)

    def _text(self, words: int) -> str:
        """Words in an order that nobody saw before, different from the first one on."""
        chosen = " ".join(self._random.choices(TEXT.split(), k=words))
        return f"{self._random.getrandbits(40):010x} {chosen}"

    async def _ask(self, text: str, *, max_tokens: int) -> Took:
        request = ChatRequest(
            model_id=self._lease.model.id,
            instance_id=self._lease.instance.id,
            messages=(ChatMessage(role="user", content=text),),
            parameters=Parameters(max_tokens=max_tokens),
        )
        started = time.monotonic()
        first = last = None
        deltas = 0
        end: Answered | None = None
        async with aclosing(self._provider.stream_chat(request)) as events:
            async for event in events:
                if isinstance(event, MessageDelta | ReasoningDelta):
                    last = time.monotonic()
                    first = first or last
                    deltas += 1
                elif isinstance(event, Answered):
                    end = event
        over = time.monotonic()
        timings = (end.raw_stats or {}).get("timings") if end else None
        output = end.output_tokens if end and end.output_tokens is not None else deltas
        return Took(
            input_tokens=end.input_tokens if end else None,
            output_tokens=output,
            first_seconds=(first or over) - started,
            writing_seconds=(last or over) - (first or over),
            timings=timings if isinstance(timings, dict) else {},
        )
