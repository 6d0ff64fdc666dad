"""Chats and the turns in them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import Field
from starlette.responses import JSONResponse

from api.paging import Offset
from api.services import Desk, Services
from api.sse import stream_job, wants_events
from core.agents import Agent, no_agent
from core.chat import Parameters
from core.chats import Chat, ChatPage, Conversation, Message, SearchMode
from core.preferences import AUTO
from core.transfer import SavedChat, restored, saved
from core.turn_plan import TurnDraft
from core.value import Value

router = APIRouter(prefix="/chats", tags=["chats"])

Title = Annotated[str, Field(max_length=300)]


class NewChat(Value):
    """What a chat starts with."""

    title: Title = ""
    agent_id: str | None = None
    model_id: str | None = None


class ChatChanges(Value):
    """What to change; what is left out stays."""

    title: Title | None = None
    agent_id: str | None = None
    model_id: str | None = None
    parameters: Parameters | None = None
    head_id: str | None = None
    """Any message: the branch that ends in the newest leaf below it is put on show."""


class Fork(Value):
    """Where to fork."""

    message_id: str


class Receipt(Value):
    """A turn that was started."""

    job_id: str
    message_id: str
    user_message_id: str


@router.post("", status_code=status.HTTP_201_CREATED)
@router.post("/", status_code=status.HTTP_201_CREATED, include_in_schema=False)
async def create_chat(desk: Desk, body: NewChat | None = None) -> Chat:
    """A new, empty chat."""
    new = body or NewChat()
    if new.agent_id is not None:
        _known_agent(desk.agents, new.agent_id)
    if new.model_id is not None:
        await _model_name(desk, new.model_id)
    chat = await desk.store.create_chat(
        title=new.title.strip(), agent_id=new.agent_id, model_id=new.model_id
    )
    desk.revisions.touch(chat.id)
    return chat


@router.get("")
@router.get("/", include_in_schema=False)
async def list_chats(
    desk: Desk,
    q: Annotated[str, Query(max_length=500)] = "",
    mode: SearchMode = "auto",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Offset = 0,
) -> ChatPage:
    """Newest first; `q` searches titles and messages.

    By their words, and by what is meant where a model that makes vectors is in memory.
    """
    return await desk.similar.search(q, mode=mode, limit=limit, offset=offset)


@router.post("/import", status_code=status.HTTP_201_CREATED)
async def import_chat(body: SavedChat, desk: Desk) -> Chat:
    """A new chat from an exported one."""
    chat = await desk.store.create_chat(title=body.title.strip())
    return await _filled(desk, chat, restored(body.messages, chat.id), body.parameters)


@router.get("/{chat_id}")
async def read_chat(chat_id: str, desk: Desk) -> Conversation:
    """The chat and the branch on show."""
    return await desk.store.conversation(chat_id)


@router.patch("/{chat_id}")
async def change_chat(chat_id: str, body: ChatChanges, desk: Desk) -> Chat:
    """Rename it, choose agent, model or parameters for what comes, or show another branch."""
    if body.agent_id is not None:
        _known_agent(desk.agents, body.agent_id)
    model_id = None if body.model_id is None else await _model_name(desk, body.model_id)
    head = await desk.store.tip(chat_id, body.head_id) if body.head_id is not None else None
    chat = await desk.store.update_chat(
        chat_id,
        title=body.title.strip() if body.title is not None else None,
        agent_id=body.agent_id,
        model_id=model_id,
        parameters=body.parameters,
        head_id=head,
    )
    desk.revisions.touch(chat_id)
    return chat


@router.delete("/{chat_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_chat(chat_id: str, desk: Desk) -> None:
    """Hide it; `restore` brings it back for 30 days. A running answer in it is stopped."""
    await desk.store.chat(chat_id)
    for job in desk.jobs.list(state="running"):
        if job.kind in ("turn", "run") and job.chat_id == chat_id:
            await desk.jobs.stop(job.id)
    await desk.store.delete_chat(chat_id)
    desk.revisions.touch(chat_id)


@router.post("/{chat_id}/restore")
async def restore_chat(chat_id: str, desk: Desk) -> Chat:
    """Undo a delete."""
    chat = await desk.store.restore_chat(chat_id)
    desk.revisions.touch(chat_id)
    return chat


@router.get("/{chat_id}/export")
async def export_chat(chat_id: str, desk: Desk) -> JSONResponse:
    """The branch on show as a file."""
    chat = saved(await desk.store.conversation(chat_id))
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in chat.title).strip("-")
    disposition = f'attachment; filename="{name[:60] or "chat"}.json"'
    return JSONResponse(chat.model_dump(mode="json"), headers={"Content-Disposition": disposition})


@router.post("/{chat_id}/fork", status_code=status.HTTP_201_CREATED)
async def fork_chat(chat_id: str, body: Fork, desk: Desk) -> Chat:
    """A new chat with everything up to this message."""
    source = await desk.store.chat(chat_id)
    await desk.store.message(chat_id, body.message_id)
    messages = await desk.store.branch(chat_id, body.message_id)
    chat = await desk.store.create_chat(
        title=source.title, agent_id=source.agent_id, model_id=source.model_id
    )
    return await _filled(desk, chat, restored(messages, chat.id), source.parameters)


@router.post("/{chat_id}/turns", status_code=status.HTTP_202_ACCEPTED, response_model=Receipt)
async def start_turn(chat_id: str, body: TurnDraft, desk: Desk, request: Request) -> Response:
    """Ask. The answer is written by the API, whoever watches."""
    turn = await desk.turns.start(chat_id, body)
    receipt = {
        "job_id": turn.job.id,
        "message_id": turn.message_id,
        "user_message_id": turn.user_message_id,
    }
    if wants_events(request):
        return stream_job(turn.job, headers={"X-Message-Id": turn.message_id})
    return JSONResponse(receipt, status.HTTP_202_ACCEPTED)


async def _filled(
    desk: Services, chat: Chat, messages: list[Message], parameters: Parameters
) -> Chat:
    if messages:
        await desk.store.add_messages(messages, head_id=messages[-1].id)
    filled = await desk.store.update_chat(chat.id, parameters=parameters)
    desk.revisions.touch(chat.id)
    return filled


def _known_agent(agents: dict[str, Agent], agent_id: str) -> None:
    if agent_id not in agents:
        raise no_agent(agent_id, agents)


async def _model_name(desk: Services, name: str) -> str:
    """What a chat remembers of this name: the model's full one, or `auto`. Raises ModelNotFound."""
    if name.strip().casefold() == AUTO:
        return AUTO
    return (await desk.library.resolve(name)).full_name
