"""Everything that can go wrong, as a person reads it and a program matches it.

Each error carries a sentence (`message`), what to do about it (`hint`) and a stable word
(`code`). HTTP statuses are not known here: `api.errors` holds the one table.

    DeskError
     ├ RequestError            the person can fix it
     │  ├ NotFound             ├ ChatNotFound, MessageNotFound, JobNotFound, AgentNotFound, ProviderNotFound,
     │  │                        FlightNotFound
     │  ├ ModelNotFound          carries the closest names
     │  ├ ModelAmbiguous         carries the candidates
     │  ├ NoModelFits
     │  ├ ToolServerNotFound, ToolNotFound, ToolServerNotTrusted, ToolServerOff
     │  ├ NoEmbeddingModel, HubModelNotFound, HubFileNotFound
     │  ├ MessageEmpty, MessageTooLong, BadParameter
     │  ├ Conflict             ├ ModelInUse, TurnRunning, LoadRunning, NotLoadable, NotDownloadable
     │  └ ContextTooLong
     ├ ProviderError           the other side
     │  ├ ProviderUnreachable, ProviderTimeout, ProviderNeedsToken, ProviderRejected, ProviderProtocolError
     │  ├ ProviderFailed, ProviderBusy, ProviderResting
     │  ├ LoadFailed, LoadUnproven, UnloadUnproven
     │  ├ ModelCrashed, ModelUnloaded, ModelMismatch
     │  └ HubUnreachable, HubNeedsToken, HubRejected, DownloadFailed, DownloadDamaged
     ├ ToolError               ToolServerFailed, ToolTimeout
     ├ NotEnoughMemory         the machine
     └ StorageError            the disk
        └ NotEnoughDisk
"""

from collections.abc import Sequence
from typing import ClassVar


class DeskError(Exception):
    """Base of all errors a person may see."""

    code: ClassVar[str] = "desk_error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def extra(self) -> dict[str, object]:
        """Further facts for the program, such as candidates; JSON-ready."""
        return {}


class RequestError(DeskError):
    """The request cannot be carried out as it stands."""

    code = "bad_request"


class NotFound(RequestError):
    """The thing named is not here."""

    code = "not_found"


class ChatNotFound(NotFound):
    """No chat has this id."""

    code = "chat_not_found"


class MessageNotFound(NotFound):
    """No message of this chat has this id."""

    code = "message_not_found"


class JobNotFound(NotFound):
    """No job has this id, or it ended too long ago."""

    code = "job_not_found"


class FlightNotFound(NotFound):
    """Nobody wrote down how this answer was made."""

    code = "flight_not_found"


class AgentNotFound(NotFound):
    """No agent has this id."""

    code = "agent_not_found"


class ProviderNotFound(NotFound):
    """No provider is configured under this name."""

    code = "provider_not_found"


class ModelNotFound(NotFound):
    """No provider serves a model of this name. `candidates` are the closest full names."""

    code = "model_not_found"

    def __init__(self, message: str, *, hint: str = "", candidates: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)

    def extra(self) -> dict[str, object]:
        return {"candidates": list(self.candidates)}


class ModelAmbiguous(ModelNotFound):
    """Several providers serve a model of this bare id. `candidates` are their full names."""

    code = "model_ambiguous"


class NoModelFits(RequestError):
    """Models there are, but none that can do what the request needs."""

    code = "no_model_fits"


class NoEmbeddingModel(NotFound):
    """No provider here has a model that makes vectors."""

    code = "no_embedding_model"


class HubModelNotFound(NotFound):
    """The hub has no such repository, or shows it to nobody it does not know."""

    code = "hub_model_not_found"


class HubFileNotFound(NotFound):
    """The repository has no such file. `candidates` are those it has."""

    code = "hub_file_not_found"

    def __init__(self, message: str, *, hint: str = "", candidates: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)

    def extra(self) -> dict[str, object]:
        return {"candidates": list(self.candidates)}


class MessageEmpty(RequestError):
    """There is nothing to answer."""

    code = "message_empty"


class MessageTooLong(RequestError):
    """The message is larger than any window here."""

    code = "message_too_long"


class BadParameter(RequestError):
    """A parameter is out of its range."""

    code = "bad_parameter"


class ContextTooLong(RequestError):
    """The conversation no longer fits the model's context."""

    code = "context_too_long"


class Conflict(RequestError):
    """Something else is going on that must end first."""

    code = "conflict"


class ModelInUse(Conflict):
    """Answers are being written with this model. `chats` are the ids a forced unload would stop."""

    code = "model_in_use"

    def __init__(self, message: str, *, hint: str = "", chats: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.chats = tuple(chats)

    def extra(self) -> dict[str, object]:
        return {"chats": list(self.chats)}


class TurnRunning(Conflict):
    """An answer is already being written in this chat."""

    code = "turn_running"


class NotLoadable(Conflict):
    """This provider has no loading and unloading."""

    code = "not_loadable"


class NotDownloadable(Conflict):
    """This provider cannot fetch models."""

    code = "not_downloadable"


class ProviderError(DeskError):
    """A provider failed us."""

    code = "provider_error"


class ProviderUnreachable(ProviderError):
    """Nothing answers at the provider's address."""

    code = "provider_unreachable"


class ProviderTimeout(ProviderError):
    """The provider did not answer in time."""

    code = "provider_timeout"


class ProviderNeedsToken(ProviderError):
    """The provider wants an API token, or a better one."""

    code = "provider_needs_token"


class ProviderRejected(ProviderError):
    """The provider refused the request."""

    code = "provider_rejected"


class ProviderFailed(ProviderError):
    """The provider broke while it dealt with the request: a 5xx that says nothing more exact."""

    code = "provider_failed"


class ProviderBusy(ProviderError):
    """The provider, or our line before it, is full. `retry_after` is in seconds, if known."""

    code = "provider_busy"

    def __init__(self, message: str, *, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after

    def extra(self) -> dict[str, object]:
        return {"retry_after": self.retry_after}


class ProviderResting(ProviderUnreachable):
    """The provider failed several times in a row and is left alone for some seconds."""

    code = "provider_resting"


class ProviderProtocolError(ProviderError):
    """The provider sent something we cannot read."""

    code = "provider_protocol"


class LoadFailed(ProviderError):
    """The provider could not load the model, and said why."""

    code = "model_load_failed"


class LoadUnproven(LoadFailed):
    """The provider said the model is loaded; its list does not show it."""

    code = "load_unproven"


class UnloadUnproven(ProviderError):
    """The provider said the model is unloaded; its list still shows it."""

    code = "unload_unproven"


class ModelCrashed(ProviderError):
    """The model's process ended while it was working."""

    code = "model_crashed"


class ModelUnloaded(ProviderError):
    """The model was taken out of memory while it was working."""

    code = "model_unloaded"


class ModelMismatch(ProviderError):
    """Another model answered than the one asked for."""

    code = "model_mismatch"


class HubUnreachable(ProviderUnreachable):
    """The hub of models cannot be reached, as without the internet."""

    code = "hub_unreachable"


class HubNeedsToken(ProviderNeedsToken):
    """The hub gives this model only to people it knows."""

    code = "hub_needs_token"


class HubRejected(ProviderRejected):
    """The hub refused, or answered something that cannot be used."""

    code = "hub_rejected"


class DownloadFailed(ProviderError):
    """The provider could not download the model."""

    code = "download_failed"


class DownloadDamaged(DownloadFailed):
    """What arrived is not what the hub has. It was deleted."""

    code = "download_damaged"


class NotEnoughMemory(DeskError):
    """The model does not fit."""

    code = "not_enough_memory"


class ToolError(DeskError):
    """A tool or its server failed us."""

    code = "tool_error"


class ToolServerNotFound(NotFound):
    """No tool server has this name. `candidates` are the closest ones."""

    code = "tool_server_not_found"

    def __init__(self, message: str, *, hint: str = "", candidates: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)

    def extra(self) -> dict[str, object]:
        return {"candidates": list(self.candidates)}


class ToolNotFound(NotFound):
    """The server has no such tool."""

    code = "tool_not_found"


class ToolServerNotTrusted(Conflict):
    """Nobody has said yes to this server as it is now: its command, its address, its tools."""

    code = "tool_server_not_trusted"


class ToolServerOff(Conflict):
    """The server, or the tool, is switched off."""

    code = "tool_server_off"


class ToolServerFailed(ToolError):
    """The server could not be started, or ended."""

    code = "tool_server_failed"


class ToolTimeout(ToolError):
    """The tool did not answer in time."""

    code = "tool_timeout"


class StorageError(DeskError):
    """Chats cannot be read or written."""

    code = "storage_error"


class NotEnoughDisk(StorageError):
    """The disk has no room for it."""

    code = "not_enough_disk"
