"""Hot: the names that were looked up last and what they turned out to mean, a bounded number of them."""

from collections import OrderedDict

from core.models import ModelInfo

# Names a provider.
KEPT = 100


class Hot:
    """Forgets the longest unused name of a provider, and everything when the lists change."""

    def __init__(self) -> None:
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self._mark: tuple[object, ...] = ()
        self._names: dict[str, ModelInfo] = {}
        self._used: dict[str, OrderedDict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def get(self, name: str, mark: tuple[object, ...]) -> ModelInfo | None:
        """What the name meant, as long as the lists are those of `mark`."""
        self._turn_to(mark)
        model = self._names.get(name)
        if model is None:
            self.misses += 1
            return None
        self.hits += 1
        self._used[model.provider].move_to_end(name)
        return model

    def keep(self, name: str, model: ModelInfo, mark: tuple[object, ...]) -> None:
        """This is what it means in the lists of `mark`."""
        self._turn_to(mark)
        used = self._used.setdefault(model.provider, OrderedDict())
        self._names[name] = model
        used[name] = None
        if len(used) > KEPT:
            oldest, _ = used.popitem(last=False)
            del self._names[oldest]
            self.evictions += 1

    def _turn_to(self, mark: tuple[object, ...]) -> None:
        if mark != self._mark:
            self._mark = mark
            self._names.clear()
            self._used.clear()
