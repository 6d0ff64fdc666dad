"""ModelLibrary: the registry, and the one door through which models come and go."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager

from core.errors import LoadUnproven, ModelInUse, ModelUnloaded, NotLoadable
from core.jobs import Job, JobService
from core.leases import Lease, Leases
from core.load_jobs import LoadJobs, report_loaded, report_progress
from core.load_settings import ALL_OPTIONS, LoadSettings
from core.loads import Loads
from core.models import Instance, Loaded, LoadOptions, ModelInfo
from core.ports import ModelLoader, Provider, SparingLoader
from core.registry import Registry


class ModelLibrary(Registry):
    """Lists, resolves, loads, unloads and lends models."""

    def __init__(
        self,
        providers: Sequence[Provider],
        jobs: JobService,
        loads: Loads | None = None,
        settings: LoadSettings | None = None,
    ) -> None:
        """With `loads`, what each load took is remembered there; `settings` say how to load."""
        super().__init__(providers)
        self._loads = loads
        self._settings = settings
        self._jobs = jobs
        self._locks: dict[str, asyncio.Lock] = {}
        self._load_jobs = LoadJobs(jobs)
        self._leases = Leases(self._shelves, jobs)
        if loads is not None:
            self.on_listed = loads.seen

    async def remove(self, name: str) -> None:
        """Let a provider go; answers being written with its models end as interrupted."""
        self._shelf(name)
        for job_id in self._leases.jobs_of(name):
            await self._jobs.stop(job_id, state="interrupted", reason="provider_removed")
        await super().remove(name)

    # -- loading and unloading -------------------------------------------------------------------

    def start_load(self, model: ModelInfo, options: LoadOptions | None = None) -> Job:
        """A job that loads the model, or the one that already does."""
        wanted = options or LoadOptions()
        return self.start_load_by(model, lambda job: self.load_within(job, model, wanted))

    def start_load_by(
        self,
        model: ModelInfo,
        work: Callable[[Job], Awaitable[None]],
        *,
        for_answers: bool = False,
    ) -> Job:
        """A job that loads the model by doing `work`, or the one that already loads it.

        One `for_answers` ends with the last of the answers that will wait for it.
        """
        return self._load_jobs.start(model, work, for_answers=for_answers)

    def start_unload(self, model: ModelInfo, *, force: bool = False) -> Job:
        """A job that takes all instances of the model out of memory.

        Raises ModelInUse with the chats that are being answered, unless forced; then they end as
        interrupted first.
        """
        self._refuse_if_leased(model, force=force)
        job = Job("unload", model_id=model.full_name)
        job.enter("unloading")
        reason = "model_unloaded" if force else None
        return self._jobs.start(job, lambda job: self._unload(job, model, interrupt=reason))

    @asynccontextmanager
    async def lease(
        self, model: ModelInfo, job: Job, *, max_age: float = 0.0, yields: bool = False
    ) -> AsyncGenerator[Lease]:
        """Hold one instance of the model for a job, loading it first if need be.

        The job gets the load's events as its own. `max_age`: how many seconds ago the provider may
        have been asked last whether the model is in memory. With `yields` nothing is loaded (it
        raises ModelUnloaded instead), and whoever unloads the model ends the job.
        """
        lease = await self._acquire(model, job, max_age, yields=yields)
        try:
            yield lease
        finally:
            self._leases.give_back(model, job)

    def leased_by(self, model: ModelInfo) -> list[str]:
        """Chats that are being answered with this model right now."""
        return self._leases.chats(model)

    def used_at(self, model: ModelInfo) -> float | None:
        """When an answer of this model ended last, monotonic seconds; None if none did yet."""
        return self._leases.used_at(model)

    def asked_context(self, model: ModelInfo) -> int | None:
        """The context it was loaded with from here, or will be; None leaves that to its provider."""
        ours = self._loads.options_of(model.full_name) if self._loads else None
        if ours is None and self._settings is not None:
            ours = self._settings.of(model)
        return ours.context_length if ours else None

    async def until_free(self, model: ModelInfo) -> None:
        """Return when the answers being written with it now have ended."""
        for job in [self._jobs.get(job_id) for job_id in self._leases.jobs(model)]:
            await job.ended.wait()

    def load_options(self, model: ModelInfo) -> frozenset[str]:
        """Names of the options that a load of this model takes."""
        provider: object = self._shelf(model.provider).provider
        if not model.loadable or not isinstance(provider, ModelLoader):
            return frozenset()
        return provider.load_options if isinstance(provider, SparingLoader) else ALL_OPTIONS

    def require_loadable(self, model: ModelInfo) -> None:
        """Raises NotLoadable where the provider has no loading."""
        self._loader(model)

    @asynccontextmanager
    async def doors(self, *models: ModelInfo) -> AsyncGenerator[None]:
        """While inside, nothing of these models' providers comes or goes but what the caller moves."""
        async with AsyncExitStack() as stack:
            for name in sorted({model.provider for model in models}):  # one order: no deadlock
                lock = self._locks.setdefault(name, asyncio.Lock())
                await stack.enter_async_context(lock)
            yield

    @contextmanager
    def leaving(self, models: Sequence[ModelInfo]) -> Generator[None]:
        """For somebody inside their doors: meanwhile answers that want them wait outside."""
        for model in models:
            self._move(model, "unloading")
        try:
            yield
        finally:
            for model in models:
                self._move(model, None)

    async def aclose(self) -> None:
        await self._leases.aclose()
        await super().aclose()

    # -- inside ----------------------------------------------------------------------------------

    def _loader(self, model: ModelInfo) -> ModelLoader:
        provider = self._shelf(model.provider).provider
        if not model.loadable or not isinstance(provider, ModelLoader):
            raise NotLoadable(
                f"{model.provider} has no loading and unloading.",
                hint="Its models can be used as they are.",
            )
        return provider

    async def load_within(self, job: Job, model: ModelInfo, options: LoadOptions) -> None:
        """Load as a part of this job, whose result it becomes. Raises what keeps us from it."""
        async with self.doors(model):
            await self.bring_in(job, model, options)

    async def bring_in(self, job: Job, model: ModelInfo, options: LoadOptions) -> None:
        """The same for a caller who is inside the model's door."""
        loader = self._loader(model)
        job.emit("model_load.start", model_id=model.full_name)
        now = await self._current(model)
        if now.loaded:
            report_loaded(job, model, now.instances[0], 0.0)
            return
        if self._settings is not None:
            options = self._settings.over(model, options, takes=self.load_options(model))
        watch = self._loads.begin() if self._loads else None
        self._move(model, "loading")
        try:
            # Their server would load a copy of its own for them.
            for lost in self._leases.end_lost(self._shelf(model.provider)):
                await lost.ended.wait()
            loaded = await self._follow_load(job, loader, model, options)
        finally:
            self._shelf(model.provider).forget()
            self._move(model, None)
        await self._prove(loader, model, loaded)
        if self._loads is not None and watch is not None:
            self._loads.loaded(watch, model, options, loaded)
        report_loaded(job, model, loaded.instance, loaded.seconds)

    async def _prove(self, loader: ModelLoader, model: ModelInfo, loaded: Loaded) -> None:
        """Raises LoadUnproven unless the provider lists what it says it loaded."""
        try:
            now = await self._current(model)
        except asyncio.CancelledError:
            if loaded.seconds:  # the cancel came when the model was just there
                await loader.unload_instance(loaded.instance.id)
                self._shelf(model.provider).forget()
            raise
        if not any(instance.id == loaded.instance.id for instance in now.instances):
            raise LoadUnproven(
                f"{model.provider} said {model.name} is loaded, but does not list it as loaded.",
                hint="It may have been evicted at once. Look at the provider's own window.",
            )

    async def _follow_load(
        self, job: Job, loader: ModelLoader, model: ModelInfo, options: LoadOptions
    ) -> Loaded:
        job.enter("loading", 0.0)
        highest = 0.0
        async with aclosing(loader.load_model(model.id, options)) as events:
            async for event in events:
                if isinstance(event, Loaded):
                    return event
                highest = max(highest, event.fraction)  # a server's figure may go back
                report_progress(job, model, event, highest)
        raise LoadUnproven(f"{model.provider} ended the load of {model.name} without a result.")

    async def _unload(self, job: Job, model: ModelInfo, *, interrupt: str | None) -> None:
        async with self.doors(model):
            taken = await self.take_out(model, interrupt=interrupt)
        job.result = {
            "model_id": model.full_name,
            "instances": [instance.id for instance in taken],
        }

    async def instances(self, model: ModelInfo) -> tuple[Instance, ...]:
        """Those in memory now."""
        return (await self._current(model)).instances

    async def take_out(
        self, model: ModelInfo, *, interrupt: str | None = None
    ) -> tuple[Instance, ...]:
        """Take all instances of the model out of memory, inside its door; those that were there.

        Raises ModelInUse while answers are written with it, unless `interrupt` says for which
        reason they end first.
        """
        loader = self._loader(model)
        self._refuse_if_leased(model, force=interrupt is not None)
        # From here on an answer that wants it waits, and loads it anew.
        self._move(model, "unloading")
        try:
            forced = interrupt is not None
            ending = self._leases.jobs(model) if forced else self._leases.yielding(model)
            for job_id in ending:
                if job_id in self._leases.jobs(model):  # it may have ended meanwhile
                    reason = interrupt or "model_unloaded"
                    await self._jobs.stop(job_id, state="interrupted", reason=reason)
            taken = await self.instances(model)
            for instance in taken:
                await loader.unload_instance(instance.id)
        finally:
            self._shelf(model.provider).forget()
            self._move(model, None)
        if self._loads is not None:
            self._loads.unloaded(model)
        await self._current(model)
        return taken

    def _refuse_if_leased(self, model: ModelInfo, *, force: bool) -> None:
        chats = self.leased_by(model)
        if not chats or force:
            return
        answers = "an answer is" if len(chats) == 1 else f"{len(chats)} answers are"
        raise ModelInUse(
            f"{model.name} is in use: {answers} being written with it.",
            hint="Wait for the answer, stop it, or unload with force.",
            chats=chats,
        )

    async def _acquire(self, model: ModelInfo, job: Job, max_age: float, *, yields: bool) -> Lease:
        provider = self._shelf(model.provider).provider
        if not model.loadable or not isinstance(provider, ModelLoader):
            instance = Instance(id=model.id, context_length=model.context_length)
            return self._leases.take(model, instance, job, load_seconds=None)
        seconds: float | None = None
        while True:
            if model.full_name not in self._moving:
                now = await self._current(model, max_age=max_age)
                if now.loaded and model.full_name not in self._moving:
                    # No await between the look and the hold: an unload sees the lease.
                    return self._leases.take(
                        now, now.instances[0], job, load_seconds=seconds, yields=yields
                    )
            if yields:
                raise ModelUnloaded(f"{model.name} is not in memory any more.")
            seconds = await self._load_jobs.wait_within(
                job, model, lambda load: self.load_within(load, model, LoadOptions())
            )
