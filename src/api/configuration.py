"""Configuration: the settings that are in effect, the file they are kept in, and how they change."""

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from api.config_edit import REMOVED, Change, edited
from api.config_file import ConfigFile, FileChanged, parsed
from api.settings import BadSetting, Keys, Settings
from api.settings_sources import CONFIG_NAME, SettingsSources, given_settings
from api.settings_values import Source, dotted
from core.errors import BadParameter, Conflict, DeskError, NotFound

log = logging.getLogger(__name__)

Listener = Callable[[Settings], Awaitable[None]]

WATCH_SECONDS = 2.0
UNDOS = 20
# What may change while LM Desk runs. The rest says where it listens, who comes in and where its
# data is, which a web page must not decide.
RUNTIME = (
    "providers",
    "models",
    "fallback",
    "lmstudio_url",
    "lmstudio_token",
    "on_start",
    "idle_unload_minutes",
    "keep_models_within",
    "pinned_models",
    "approval_minutes",
    "tools",
    "runs",
    "hf_token",
    "log_level",
)
PLACES = {
    "argument": "the command line",
    "environment": "the environment",
    ".env": "the file .env",
}


class UnusableSetting(BadParameter):
    """A value that cannot be. `parameter` names it."""

    code = "unusable_setting"

    def __init__(self, message: str, *, hint: str = "", parameter: str = "") -> None:
        super().__init__(message, hint=hint)
        self.parameter = parameter

    def extra(self) -> dict[str, object]:
        return {"parameter": self.parameter}


class SettingLocked(Conflict):
    """Set where it cannot be changed from here."""

    code = "setting_locked"


class FileUnusable(Conflict):
    """The file has a mistake that a person has to mend first."""

    code = "settings_file_unusable"


class UndoGone(NotFound):
    """There is nothing left to take back."""

    code = "undo_not_found"


class FileGone(BadSetting):
    """There was a file, and it is not there now."""


class Configuration:
    """What LM Desk is set to. One at a time may change it."""

    def __init__(self, settings: Settings, sources: SettingsSources | None = None) -> None:
        """`settings` are in effect. Without sources they count as given, and cannot be changed."""
        self._start = settings
        self.settings = settings
        """In effect."""
        self.configured = settings
        """What is written down; what needs a restart may differ from what is in effect."""
        self.sources = sources or given_settings(settings)
        self.problem: BadSetting | None = None
        """What is wrong with the file as it is now; the settings in effect are older."""
        self._file = ConfigFile(self.sources.path or settings.data_dir / CONFIG_NAME)
        self._lock = asyncio.Lock()
        self._listeners: list[Listener] = []
        self._undos: OrderedDict[str, tuple[str, str]] = OrderedDict()

    @property
    def file(self) -> ConfigFile:
        """The lmdesk.yaml that is read and written."""
        return self._file

    def on_change(self, listener: Listener) -> None:
        """Call this with the new settings whenever those in effect change."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Notice when somebody else changes the file, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_SECONDS)

    async def look(self) -> None:
        """Take over the file if it was changed; a bad one becomes `problem`."""
        async with self._lock:
            await self._look()

    async def change(self, changes: Sequence[Change], *, revision: str | None = None) -> str:
        """Write the changes to the file and put them into effect; the word that undoes them.

        `revision` is the content the changes were made for. Raises UnusableSetting, SettingLocked,
        FileChanged, FileUnusable or CannotWrite, and then nothing is changed.
        """
        async with self._lock:
            await self._look()
            self._refuse_other_file(revision)
            for keys, _ in changes:
                self._refuse_fixed(keys)
            before = self._file.text or ""
            self._refuse_unusable(changes)
            await self._commit(edited(before, changes))
            return self._remember(before)

    async def undo(self, word: str) -> None:
        """Take a change back, byte for byte. Raises UndoGone if it is not the last one any more."""
        async with self._lock:
            await self._look()
            self._refuse_other_file(None)
            revision, before = self._undos.get(word, ("", ""))
            if revision != self._file.revision:
                raise UndoGone(
                    "This change cannot be taken back any more.",
                    hint="Something else was changed since. Change it by hand.",
                )
            del self._undos[word]
            await self._commit(before)

    def waits(self, key: str) -> bool:
        """Whether the setting was changed, and the change counts after a restart only."""
        if key in RUNTIME or (key == "token" and self._start.token_file is not None):
            return False
        return bool(getattr(self.configured, key) != getattr(self._start, key))

    def lock_of(self, keys: Keys) -> str:
        """Why this cannot be changed here, in one sentence; empty if it can."""
        if keys[0] not in RUNTIME:
            return "It is read when LM Desk starts: set it in the file or the environment."
        # One address and several are two ways to say the same.
        other = {"base_url": "base_urls", "base_urls": "base_url"}.get(str(keys[-1]))
        for asked in (keys, *([(*keys[:-1], other)] if other else [])):
            origin, place = self.sources.origin(asked)
            if origin in PLACES:
                return f"Set by {PLACES[origin]}: {place}."
        return ""

    # -- inside ----------------------------------------------------------------------------------

    async def _look(self) -> None:
        if not self._file.moved():
            return
        try:
            text = await asyncio.to_thread(self._file.read)
            if text is None and self.sources.path is not None:
                raise FileGone(
                    f"{self._file.path} is gone.",
                    hint="What it said counts until LM Desk ends. A change here writes it again.",
                )
            sources = self._with(text or "")
            await self._take_over(sources, sources.settings())
        except DeskError as error:
            known = error if isinstance(error, BadSetting) else None
            self.problem = known or BadSetting(error.message, hint=error.hint)
            log.warning("the settings file is not taken over: %s", error.message)
        else:
            self.problem = None

    def _with(self, text: str) -> SettingsSources:
        return self.sources.with_file(self._file.path, parsed(text, self._file.path))

    async def _commit(self, text: str) -> None:
        """Into the file and into effect, or neither."""
        before, sources = self._file.text, self._with(text)
        try:
            configured = sources.settings()
        except BadSetting as error:
            raise _unusable(error) from error
        await asyncio.to_thread(self._file.write, text)
        self.problem = None
        try:
            await self._take_over(sources, configured)
        except DeskError:
            await asyncio.to_thread(self._file.write, before or "")
            raise

    async def _take_over(self, sources: SettingsSources, configured: Settings) -> None:
        """Put what may change into effect. A listener's error is raised, and all is as before."""
        old = self.settings
        values = {key: getattr(configured, key) for key in RUNTIME}
        new = self._start.model_copy(update=values)
        if new != old:
            self.settings = new
            try:
                for listener in self._listeners:
                    await listener(new)
            except DeskError:
                self.settings = old
                for listener in self._listeners:
                    await listener(old)
                raise
        self.sources, self.configured = sources, configured

    def _remember(self, before: str) -> str:
        word = secrets.token_urlsafe(9)
        self._undos[word] = (self._file.revision, before)
        while len(self._undos) > UNDOS:
            self._undos.popitem(last=False)
        return word

    def _refuse_other_file(self, revision: str | None) -> None:
        if self.problem is not None and not isinstance(self.problem, FileGone):
            raise FileUnusable(
                self.problem.message, hint=self.problem.hint or "Mend the file, then try again."
            )
        if revision is not None and revision != self._file.revision:
            raise FileChanged(
                f"{self._file.path} was changed since these settings were read.",
                hint="Nothing was written. Look at the settings again, then repeat the change.",
            )

    def _refuse_fixed(self, keys: Keys) -> None:
        name = dotted(keys)
        if keys[0] in Settings.model_fields and keys[0] not in RUNTIME:
            raise SettingLocked(
                f"'{name}' cannot be changed while LM Desk runs.",
                hint=f"Set it in {self._file.path} and start LM Desk again.",
            )
        if reason := self.lock_of(keys) if keys[0] in RUNTIME else "":
            raise SettingLocked(
                f"'{name}' cannot be changed here. {reason}",
                hint="Change it there, then start LM Desk again.",
            )

    def _refuse_unusable(self, changes: Sequence[Change]) -> None:
        """Before the file is touched, and in words that are about the values alone."""
        values: dict[str, Any] = _copied(self.sources.file.values)
        for keys, value in changes:
            _put(values, keys, value)
        asked = Source("file", values, lambda keys: f"'{dotted(keys)}'")
        try:
            settings = self.sources.with_file(self._file.path, asked).settings()
        except BadSetting as error:
            raise _unusable(error) from error
        _refuse_moved_tokens(self.configured, settings, changes)


def _refuse_moved_tokens(old: Settings, new: Settings, changes: Sequence[Change]) -> None:
    """A token goes where a person sent it, and not where a new address of its provider is."""
    given = {keys[1] for keys, _ in changes if keys[0] == "providers" and keys[-1] == "token"}
    if any(keys[0] == "lmstudio_token" for keys, _ in changes):
        given.add("lmstudio")
    before = old.entries()
    for name, entry in new.entries().items():
        was = before.get(name)
        if was is None or entry.token is None or name in given or was.token != entry.token:
            continue
        if fresh := [url for url in entry.urls_for(name) if url not in was.urls_for(name)]:
            raise UnusableSetting(
                f"The token of '{name}' was given for another address than {fresh[0]}.",
                hint="Give the token together with the new address, or remove it.",
                parameter=f"providers.{name}.token",
            )


def _unusable(error: BadSetting) -> UnusableSetting:
    return UnusableSetting(error.message, hint=error.hint, parameter=dotted(error.keys))


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def _put(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            inner = values[key] = {}
        values = inner
    if value is REMOVED:
        values.pop(keys[-1], None)
    else:
        values[keys[-1]] = value
