"""Which columns share a machine: answers that do are asked one by one, so that their times count."""

from collections import Counter
from collections.abc import Iterable
from urllib.parse import urlsplit

from core.comparisons import Order
from core.library import ModelLibrary
from core.models import ModelInfo

HERE = {"", "localhost", "127.0.0.1", "::1", "0.0.0.0"}


def usual_order(library: ModelLibrary, models: Iterable[ModelInfo]) -> Order:
    """One by one where two of them run on the same one of the person's own machines."""
    machines = Counter(
        machine for model in models if (machine := machine_of(library, model)) is not None
    )
    return "one_by_one" if any(count > 1 for count in machines.values()) else "together"


def machine_of(library: ModelLibrary, model: ModelInfo) -> str | None:
    """The host that the model runs on; None for somebody else's computers."""
    config = library.config(model.provider)
    if config.remote:
        return None
    host = urlsplit(config.base_url).hostname or ""
    return "here" if host in HERE else host
