"""Fleet: the configured providers, brought in and let go while the desk runs."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from core.library import ModelLibrary
from core.ports import Provider
from core.providers import ProviderConfig

log = logging.getLogger(__name__)


class Fleet:
    """Makes the library's providers those of the settings."""

    def __init__(self, library: ModelLibrary, build: Callable[[ProviderConfig], Provider]) -> None:
        """`build` raises BadParameter for a configuration that cannot work."""
        self._library = library
        self._build = build
        self._sailing: dict[str, tuple[ProviderConfig, Provider]] = {}
        self._changing = asyncio.Lock()

    @property
    def configs(self) -> tuple[ProviderConfig, ...]:
        return tuple(config for config, _ in self._sailing.values())

    async def become(self, configs: Sequence[ProviderConfig]) -> None:
        """From now on these, and no others. Those that stay as they are notice nothing.

        Answers being written by one that goes or changes end as interrupted. Raises BadParameter;
        then nothing has changed.
        """
        async with self._changing:
            known = {name: config for name, (config, _) in self._sailing.items()}
            new = [config for config in configs if known.get(config.name) != config]
            built = [(config, self._build(config)) for config in new]
            staying = {config.name for config in configs} - {config.name for config in new}
            for name in set(self._sailing) - staying:
                await self._let_go(name)
            for config, provider in built:
                # The first ones are no news: they are what the settings say.
                level = logging.INFO if known else logging.DEBUG
                log.log(level, "provider %s: %s at %s", config.name, config.kind, config.base_url)
                self._sailing[config.name] = (config, provider)
                self._library.add(provider, config)

    async def aclose(self) -> None:
        """Let all go. The library is closed by now, or is about to be."""
        for _, provider in self._sailing.values():
            await provider.aclose()
        self._sailing.clear()

    async def _let_go(self, name: str) -> None:
        _, provider = self._sailing.pop(name)
        await self._library.remove(name)
        await provider.aclose()
