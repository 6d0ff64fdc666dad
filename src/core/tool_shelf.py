"""The tool servers there are: what the files say, what a person chose, and the life of each."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from core.errors import StorageError, ToolServerNotFound
from core.tool_entries import (
    ChoiceStore,
    Configured,
    FileProblem,
    ServerChoices,
    ServerEntry,
    ServerFiles,
)
from core.tool_life import ServerLife
from core.tool_server import ToolServer
from core.tool_sign_in import SignIns


class ToolShelf:
    """Read anew before each use, so that what changed on the disk counts at once."""

    def __init__(
        self,
        files: ServerFiles,
        store: ChoiceStore,
        signing: SignIns | None,
        new_life: Callable[[ServerEntry, ServerChoices], ServerLife],
    ) -> None:
        self._files = files
        self._store = store
        self._signing = signing
        self._new_life = new_life
        self._lives: dict[str, ServerLife] = {}
        self._configured = Configured()
        self._choices: dict[str, ServerChoices] = {}
        self._keys: frozenset[tuple[str, str]] = frozenset()
        self._broken: StorageError | None = None
        self._broken_keys: StorageError | None = None
        self._reading = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def lives(self) -> Sequence[ServerLife]:
        """Of every server that is written down."""
        return list(self._lives.values())

    @property
    def files(self) -> tuple[str, ...]:
        """Those that were read, the strongest first."""
        return self._configured.files

    @property
    def problems(self) -> tuple[FileProblem, ...]:
        """What cannot be used in the files, ours among them."""
        ours = (("tool-servers.json", self._broken), ("tool-keys.json", self._broken_keys))
        broken = [
            FileProblem(file=file, message=error.message, hint=error.hint)
            for file, error in ours
            if error is not None
        ]
        return (*broken, *self._configured.problems)

    async def read(self) -> None:
        """Make the servers those of the files; a running one that changed is ended."""
        async with self._reading:
            ends = await self._read()
        # Others read meanwhile: one that takes long to end must not keep them from it.
        if ends:
            await asyncio.wait(ends)

    async def aclose(self) -> None:
        """End every server."""
        await asyncio.gather(*(life.stop() for life in self.lives))
        if self._ending:
            await asyncio.wait(self._ending)

    async def _read(self) -> Sequence[asyncio.Task[None]]:
        self._configured = await self._files.read()
        try:
            # Not what was there before somebody's choice that is just being written.
            async with self._writing:
                self._choices = await self._store.load()
            self._broken = None
        except StorageError as error:
            # Nobody's yes can be read, so nothing is trusted.
            self._choices, self._broken = {}, error
        new = {entry.name: entry for entry in self._configured.entries}
        gone = [life for name, life in self._lives.items() if name not in new]
        other = [life for name, entry in new.items() if (life := self._take(name, entry))]
        for life in gone:
            del self._lives[life.entry.name]
        ends = [self._begin_end(life) for life in (*other, *gone)]
        await self._read_keys()
        return ends

    def _begin_end(self, life: ServerLife) -> asyncio.Task[None]:
        ending = asyncio.create_task(life.stop(forget=True))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    def _take(self, name: str, entry: ServerEntry) -> ServerLife | None:
        """What goes by this name, where it is no longer what was started."""
        life = self._lives.get(name)
        choices = self._choices.get(name, ServerChoices())
        if life is None:
            self._lives[name] = self._new_life(entry, choices)
            return None
        before = (life.entry, life.choices.inherit_env, life.choices.trusted)
        life.entry, life.choices = entry, choices
        return life if before != (entry, choices.inherit_env, choices.trusted) else None

    async def _read_keys(self) -> None:
        if self._signing is None:
            return
        try:
            self._keys, self._broken_keys = await self._signing.known(), None
            # A file that cannot be read today may name the server again tomorrow.
            if self._configured.whole:
                for name in {name for name, _ in self._keys} - set(self._lives):
                    await self._signing.forget(name)
        except StorageError as error:
            self._keys, self._broken_keys = frozenset(), error

    def life(self, name: str) -> ServerLife:
        """Raises ToolServerNotFound with the closest names."""
        life = self._lives.get(name)
        if life is None:
            close = get_close_matches(name, self._lives, n=3, cutoff=0.5)
            hint = "Did you mean {}?".format(" or ".join(close)) if close else self._there_are()
            raise ToolServerNotFound(
                f"There is no tool server {name!r}.", hint=hint, candidates=close
            )
        return life

    def _there_are(self) -> str:
        if not self._lives:
            return "None is configured yet: add one to mcp.json in the data folder."
        return f"There are {some_of(sorted(self._lives))}."

    def view(self, life: ServerLife) -> ToolServer:
        """As a person sees it."""
        entry = life.entry
        view = life.view(
            ours=bool(self.files) and entry.source == self.files[0],
            signed_in=(entry.name, entry.url) in self._keys,
        )
        waits = self._signing is not None and entry.name in self._signing.waiting
        return view.model_copy(update={"signing_in": waits})

    async def choose(self, life: ServerLife, **changes: Any) -> None:
        """Keep what a person chose. Raises StorageError."""
        if self._broken is not None:
            raise self._broken
        async with self._writing:
            choices = life.choices.model_copy(update=changes)
            kept = {**self._choices, life.entry.name: choices}
            await self._store.save(kept)
            self._choices, life.choices = kept, choices

    async def put(self, name: str, entry: Mapping[str, Any], *, new: bool) -> None:
        """Write this entry into our own file. Raises BadParameter, StorageError."""
        await self._files.put(name, entry, new=new)

    async def remove(self, name: str) -> bool:
        """Take it out of our own file; whether it was there. Raises StorageError."""
        return await self._files.remove(name)

    async def forget_keys(self, name: str) -> None:
        """Throw away what signing in to it gave. Raises StorageError."""
        if self._signing is not None:
            await self._signing.forget(name)
            self._keys = await self._signing.known()


def some_of(names: Sequence[str]) -> str:
    """The first dozen."""
    return ", ".join(names[:12]) + (" and others" if len(names) > 12 else "")
