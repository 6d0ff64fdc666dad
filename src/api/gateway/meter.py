"""Meter: what went through the gateway, by provider, for `/metrics`."""

from bisect import bisect_left
from dataclasses import dataclass, field

# Seconds to the first byte: a reused local server at one end, a model that loads first at the other.
FIRST_BYTE_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Counts:
    """One provider's."""

    requests: int = 0
    failures: int = 0
    """Requests that it did not answer, or not to the end."""
    running: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    first_byte_sum: float = 0.0
    first_byte: list[int] = field(default_factory=lambda: [0] * (len(FIRST_BYTE_BOUNDS) + 1))
    """How many took up to each bound; the last one is for all that took longer."""

    def first_byte_after(self, seconds: float) -> None:
        self.first_byte_sum += seconds
        self.first_byte[bisect_left(FIRST_BYTE_BOUNDS, seconds)] += 1

    def tokens(self, usage: tuple[int, int]) -> None:
        """Read and written."""
        self.input_tokens += usage[0]
        self.output_tokens += usage[1]


class Meter:
    """Counts by provider, since the start."""

    def __init__(self) -> None:
        self.providers: dict[str, Counts] = {}
        self.refused = 0
        """Requests that reached no provider: bad JSON, unknown models."""
        self.left = 0
        """Requests whose client left before the end."""
        self.fallbacks = 0
        """Requests answered by another model than the first choice."""

    def of(self, provider: str) -> Counts:
        counts = self.providers.get(provider)
        if counts is None:
            counts = self.providers[provider] = Counts()
        return counts
