"""Planner: gathers what a swap plan and the memory map are made of."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from core.chats import Chat
from core.errors import ChatNotFound, DeskError
from core.hardware import HardwareSnapshot
from core.jobs import REQUEST
from core.library import ModelLibrary
from core.loads import Loads, learned
from core.memory_map import MemoryMap, Slice, memory_map
from core.models import LoadOptions, LoadRecord, MemoryEstimate, ModelInfo
from core.monitor import HardwareMonitor
from core.plan import ChatName, Need, Pool, Resident, SwapPlan, plan
from core.ports import ChatStore, MemoryEstimator
from core.taken import Taken, by_group, by_load, by_process, lm_studio_pids
from core.watch import ProviderWatch

# What LM Studio and our engine give when nobody says how much context.
USUAL_CONTEXT = 4096
# A file in memory, with its buffers; and the cache of a token, which grows with the model: a 7B
# model of 4.7 GB takes about 128 kB a token.
WEIGHTS_FACTOR = 1.1
FILE_BYTES_PER_CACHE_BYTE = 36_000
LOCAL_HOSTS = {"", "localhost", "127.0.0.1", "::1", "host.docker.internal"}


class _Place(NamedTuple):
    """Where models of a provider live."""

    pool: Pool
    free: int | None
    total: int | None


class _Look(NamedTuple):
    """What is known of the models in memory at one moment."""

    sample: HardwareSnapshot
    resident: Mapping[int, int]
    """RAM of the processes that serve models, by number."""
    records: Mapping[str, Sequence[LoadRecord]]
    alone: str | None
    """The one model of LM Studio on this machine, if it is one alone."""


class Planner:
    """Thinks a load through before it is done."""

    def __init__(
        self,
        library: ModelLibrary,
        loads: Loads,
        monitor: HardwareMonitor,
        watch: ProviderWatch,
        store: ChatStore,
    ) -> None:
        self._library = library
        self._loads = loads
        self._monitor = monitor
        self._watch = watch
        self._store = store

    async def plan(self, model: ModelInfo, options: LoadOptions) -> SwapPlan:
        """What loading this model would need and cost."""
        models = [m for m in await self._library.models(max_age=2.0) if m.loaded and m.loadable]
        look = await self._look(models, model)
        mine = list(look.records.get(model.full_name, []))
        context = options.context_length or min(
            model.context_length or USUAL_CONTEXT, USUAL_CONTEXT
        )
        known = learned(mine, options.context_length or _last_context(mine))
        told = await self._asked(model, options)
        place = self._place(model, look.sample, known, told)
        return plan(
            model_id=model.full_name,
            name=model.name,
            loaded=any(m.full_name == model.full_name for m in models),
            pool=place.pool,
            need=_need(model, options, context, place.pool, known, told),
            free=place.free,
            total=place.total,
            residents=[
                await self._resident(m, look, place.pool)
                for m in self._ours_first(models)
                if m.full_name != model.full_name and self._together(m, model)
            ],
            last_load_seconds=mine[0].seconds if mine else None,
        )

    async def memory_map(self) -> MemoryMap:
        """What is in this machine's memory now: its models, other things, and what is free."""
        found = await self._library.models()
        models = [m for m in found if m.loaded and m.loadable and self._local(m)]
        look = await self._look(models)
        lm_studio = tuple(lm_studio_pids(look.sample))
        slices = []
        for model in models:
            own = tuple(each.pid for each in model.instances if each.pid is not None)
            pids = own or (lm_studio if self._is_lm_studio(model) else ())
            taken = self._taken(model, look)
            facts = {
                "model_id": model.full_name,
                "name": model.name,
                "source": taken.source,
                "chats": len(self._library.leased_by(model)),
                "pids": pids,
            }
            if taken.gpu_bytes:
                on = {"gpu_bytes": taken.by_gpu, "on_gpus": True}
                slices.append(Slice.model_validate({**facts, **on, "bytes": taken.gpu_bytes}))
            if taken.ram_bytes or not taken.gpu_bytes:
                slices.append(Slice.model_validate({**facts, "bytes": taken.ram_bytes}))
        return memory_map(look.sample, slices)

    # -- inside ----------------------------------------------------------------------------------

    async def _asked(self, model: ModelInfo, options: LoadOptions) -> MemoryEstimate | None:
        provider = self._library.provider(model.provider)
        if not isinstance(provider, MemoryEstimator):
            return None
        try:
            return await provider.estimate_memory(model.id, options)
        except DeskError:
            return None  # what we know ourselves has to do

    async def _look(self, loaded: Sequence[ModelInfo], *others: ModelInfo) -> _Look:
        records = await self._loads.of({m.full_name for m in (*loaded, *others)})
        pids = [i.pid for m in loaded for i in m.instances if i.pid is not None]
        resident = await self._monitor.resident(pids)
        lm_studio = [m.full_name for m in loaded if self._is_lm_studio(m) for _ in m.instances]
        alone = lm_studio[0] if len(lm_studio) == 1 else None
        return _Look(await self._monitor.latest(), resident, records, alone)

    def _is_lm_studio(self, model: ModelInfo) -> bool:
        """Whether it is in one of the processes that are called LM Studio."""
        return self._library.provider(model.provider).kind == "lmstudio" and self._local(model)

    def _taken(self, model: ModelInfo, look: _Look) -> Taken:
        """Its own processes' figure, that of its load, or what its file lets expect."""
        context = model.instances[0].context_length
        known = learned(list(look.records.get(model.full_name, [])), context)
        pool = self._place(model, look.sample, known, None).pool
        own = by_process(model, look.sample, look.resident, in_ram=pool == "ram")
        if own is None and model.full_name == look.alone:
            own = by_group(model, look.sample, lm_studio_pids(look.sample, computing=True))
        if own is not None:
            return own
        if known is not None:
            return by_load(model, known)
        count = reckoned(model, context or USUAL_CONTEXT)
        size = len(model.instances) * (count or 0)
        if pool == "vram":
            return Taken("estimate", gpu_bytes=size, known=count is not None)
        return Taken("estimate", ram_bytes=size, known=count is not None)

    def _local(self, model: ModelInfo) -> bool:
        """Whether this provider's models are in this machine's memory."""
        urls = [h.url for h in self._watch.healths if h.provider == model.provider]
        hosts = {(urlsplit(url).hostname or "") for url in urls}
        return hosts <= LOCAL_HOSTS

    def _together(self, one: ModelInfo, other: ModelInfo) -> bool:
        """Whether they compete for the same memory."""
        return one.provider == other.provider or (self._local(one) and self._local(other))

    def _place(
        self,
        model: ModelInfo,
        sample: HardwareSnapshot,
        known: LoadRecord | None,
        told: MemoryEstimate | None,
    ) -> _Place:
        gpus = [g for g in sample.gpus if g.memory_total is not None and g.memory_used is not None]
        pool: Pool = "vram" if gpus else "ram"
        if told is not None and told.vram_bytes is not None:
            pool = "vram" if gpus and told.vram_bytes else "ram"
        elif known is not None:
            pool = "vram" if gpus and known.gpu_bytes else "ram"
        if not self._local(model):
            return _Place(pool, None, None)
        if pool == "ram":
            return _Place(pool, sample.memory_total - sample.memory_used, sample.memory_total)
        free = sum((g.memory_total or 0) - (g.memory_used or 0) for g in gpus)
        return _Place(pool, free, sum(g.memory_total or 0 for g in gpus))

    def _ours_first(self, models: Sequence[ModelInfo]) -> list[ModelInfo]:
        ours = list(self._loads.ours)
        return sorted(
            models,
            key=lambda m: ours.index(m.full_name) if m.full_name in ours else len(ours),
        )

    async def _resident(self, model: ModelInfo, look: _Look, pool: Pool) -> Resident:
        taken = self._taken(model, look)
        # Where an unmeasured one lies is a guess as well.
        guess = taken.gpu_bytes + taken.ram_bytes
        count = guess if taken.source == "estimate" else taken.within(pool)
        return Resident(
            model_id=model.full_name,
            name=model.name,
            context_length=model.instances[0].context_length,
            bytes=count if taken.known else None,
            source=taken.source,
            ours=self._loads.is_ours(model),
            chats=tuple([await self._chat(each) for each in self._library.leased_by(model)]),
        )

    async def _chat(self, chat_id: str) -> ChatName:
        return ChatName(id=chat_id, title=await chat_title(self._store, chat_id))


async def chat_title(store: ChatStore, chat_id: str) -> str:
    """What the chat is called in a sentence; or the program, where an answer is of no chat."""
    if chat_id.startswith(REQUEST):
        return "another program"
    try:
        chat: Chat = await store.chat(chat_id)
    except ChatNotFound:
        return "a deleted chat"
    return chat.title or "New chat"


def reckoned(model: ModelInfo, context: int) -> int | None:
    """A rough guess from the size of the file; None without one."""
    if not model.size_bytes:
        return None
    cache = context * model.size_bytes / FILE_BYTES_PER_CACHE_BYTE
    return int(model.size_bytes * WEIGHTS_FACTOR + cache)


def _need(
    model: ModelInfo,
    options: LoadOptions,
    context: int,
    pool: Pool,
    known: LoadRecord | None,
    told: MemoryEstimate | None,
) -> Need:
    refused = told is not None and told.fits is False
    source: Literal["server", "learned", "estimated"]
    if known is not None and _as_before(known, options, context) and _in_pool(known, pool):
        # The same load was seen here: no estimate knows better.
        count, source = _in_pool(known, pool), "learned"
    elif told is not None:
        whole = told.vram_bytes if pool == "vram" else told.total_bytes
        count, source = whole or told.total_bytes, "server"
    elif known is not None:
        count, source = _in_pool(known, pool), "learned"
    else:
        return Need(bytes=reckoned(model, context), source="estimated")
    return Need(bytes=count, source=source, refused=refused)


def _as_before(record: LoadRecord, options: LoadOptions, context: int) -> bool:
    """Whether this load will be as that one was, as far as is remembered of it."""
    special = options.model_dump(exclude_none=True, exclude={"context_length", "ttl_seconds"})
    return record.context_length == context and not special


def _in_pool(record: LoadRecord, pool: Pool) -> int:
    return sum(record.gpu_bytes) if pool == "vram" else record.ram_bytes or 0


def _last_context(records: Sequence[LoadRecord]) -> int | None:
    return records[0].context_length if records else None
