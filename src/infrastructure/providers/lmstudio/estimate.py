"""How far a load probably is, when the server does not say: time against earlier loads."""

from core.models import ModelInfo

# A cold read from a common disk; replaced by what this process has seen.
SEED_BYTES_PER_SECOND = 1.5e9
# Where not even the size is known, as on 0.3.
SEED_SECONDS = 12.0
# Only the re-read says that a load is over.
CAP = 0.95
_WEIGHT = 0.5


class LoadEstimates:
    """Learns from the loads of one server; lives as long as the provider."""

    def __init__(self) -> None:
        self._bytes_per_second = SEED_BYTES_PER_SECOND
        self._learned = False
        self._seconds: dict[str, float] = {}

    def seconds(self, model: ModelInfo) -> float:
        """How long this model will probably take."""
        if model.id in self._seconds:
            return self._seconds[model.id]
        if model.size_bytes:
            return max(0.5, model.size_bytes / self._bytes_per_second)
        return SEED_SECONDS

    def fraction(self, model: ModelInfo, *, elapsed: float) -> float:
        """0 to 0.95, growing evenly over the estimate."""
        return min(CAP, elapsed / self.seconds(model))

    def learn(self, model: ModelInfo, *, seconds: float) -> None:
        """A load took this long."""
        self._seconds[model.id] = max(seconds, 0.05)
        if not model.size_bytes:
            return
        seen = model.size_bytes / max(seconds, 0.05)
        weight = _WEIGHT if self._learned else 1.0
        self._bytes_per_second += weight * (seen - self._bytes_per_second)
        self._learned = True
