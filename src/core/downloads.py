"""Downloads: models brought from the hub, by a provider itself or into our own engine's folder."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

from core.download import Download, DownloadInfo
from core.errors import DeskError, NotDownloadable, NotEnoughDisk
from core.hardware import HardwareSnapshot
from core.hub import (
    Choice,
    Fits,
    HubModel,
    Offer,
    Transfer,
    Wanted,
    as_size,
    choices,
    parse_wanted,
    pick,
    quantization_of,
)
from core.jobs import Job, JobService
from core.leftovers import Leftover
from core.library import ModelLibrary
from core.models import ModelInfo, ProviderHealth
from core.planner import reckoned
from core.ports import LibraryDownloader, ModelDownloader, ModelFolder, ModelHub

# A disk filled to its last byte breaks more than a download.
DISK_RESERVE = 0.05
# What a first load usually asks for, and what of the RAM models may take, as our engine does.
USUAL_CONTEXT = 4096
RAM_SHARE = 0.6
KEPT = 30


class Downloads:
    """Looks models up, and brings them as jobs. The same download is never made twice at once."""

    def __init__(
        self,
        library: ModelLibrary,
        jobs: JobService,
        hub: ModelHub,
        folder: ModelFolder,
        *,
        embedded: str | None,
        healths: Callable[[], Sequence[ProviderHealth]],
        sample: Callable[[], HardwareSnapshot | None],
        ram_budget: int | None = None,
    ) -> None:
        """`embedded` is the provider that reads `folder`; None where there is none."""
        self._library = library
        self._jobs = jobs
        self._hub = hub
        self._folder = folder
        self._embedded = embedded
        self._healths = healths
        self._sample = sample
        self._ram_budget = ram_budget
        self._downloads: dict[str, Download] = {}

    async def search(self, query: str, *, limit: int = 20) -> list[HubModel]:
        """Raises HubUnreachable and other ProviderErrors."""
        return await self._hub.search(query.strip(), limit=limit)

    async def offer(self, model: str) -> Offer:
        """What of this repository can be downloaded, and where it would fit."""
        repository = await self._hub.repository(parse_wanted(model).repository)
        sample = self._sample()
        return Offer(
            model=repository.id,
            gated=repository.gated,
            choices=tuple(
                each.model_copy(update={"fits": fits(each, sample, self._ram_budget)})
                for each in choices(repository.files)
            ),
        )

    async def leftovers(self) -> list[Leftover]:
        """What broken-off downloads left in our own folder, the newest first."""
        return await self._folder.leftovers()

    async def remove_leftover(self, name: str) -> None:
        """Delete it: the next download of it begins anew. Raises LeftoverNotFound, LeftoverInUse.

        An ended download that says what of it is here leaves the list.
        """
        files = [each.file for each in await self.leftovers() if each.name == name]
        await self._folder.remove_leftover(name)
        self._downloads = {
            job_id: each
            for job_id, each in self._downloads.items()
            if each.runs or each.provider != self._embedded or not each.brings(files)
        }

    def list(self) -> list[DownloadInfo]:
        """Newest first."""
        return [each.info() for each in reversed(self._downloads.values())]

    async def start(
        self, model: str, *, file: str | None = None, provider: str | None = None
    ) -> Job:
        """A job that brings the model, or the one that already does.

        Raises what can be known before: BadParameter, ProviderNotFound, NotDownloadable,
        HubModelNotFound, HubFileNotFound, HubUnreachable, NotEnoughDisk.
        """
        named = self._named_there(model, provider) if file is None else None
        if named is not None:
            return named
        wanted = parse_wanted(model, file)
        place = provider or self._place()
        if place == self._embedded:
            return await self._start_own(place, wanted)
        return self._start_there(place, wanted)

    # -- our own folder --------------------------------------------------------------------------

    async def _start_own(self, place: str, wanted: Wanted) -> Job:
        repository = await self._hub.repository(wanted.repository)
        choice = pick(choices(repository.files), wanted)
        missing = await self._folder.missing(repository, choice)
        free = await self._folder.free()
        # No await from here on: two that ask for the same get the same job.
        download = Download(place, repository.id, choice)
        if running := self._running(download):
            return running
        self._refuse_if_full(choice, missing, free)
        download.expect(missing)
        return self._run(download, self._folder.fetch(repository, choice))

    def _refuse_if_full(self, choice: Choice, missing: int, free: int) -> None:
        promised = sum(each.missing for each in self._downloads.values() if each.runs)
        needed = int((missing + promised) * (1 + DISK_RESERVE))
        if not missing or needed <= free:
            return
        others = " with the downloads under way" if promised else ""
        raise NotEnoughDisk(
            f"{choice.name} needs {as_size(needed)} on the disk{others}, "
            f"and {as_size(free)} are free.",
            hint="Delete something, or pick a smaller file.",
        )

    # -- at a provider ---------------------------------------------------------------------------

    def _named_there(self, model: str, place: str | None) -> Job | None:
        """A job for what the provider's own library calls so; None where it has none."""
        if place is None or place == self._embedded:
            return None
        provider = self._library.provider(place)
        if not isinstance(provider, LibraryDownloader):
            return None
        name = provider.library_name(model)
        return None if name is None else self._follow(Download(place, name, None), provider, name)

    def _start_there(self, place: str, wanted: Wanted) -> Job:
        provider = self._library.provider(place)
        if not isinstance(provider, ModelDownloader):
            raise NotDownloadable(
                f"{place} cannot download models.",
                hint="The built-in engine can; `embedded` must not be off.",
            )
        quantization = wanted.quantization or quantization_of(wanted.file or "")
        own = isinstance(provider, LibraryDownloader)
        download = Download(
            place, wanted.repository, None, quantization, wanted.file, detached=not own
        )
        # A bare name is one of LM Studio's catalogue; more than that only the hub knows.
        linked = own or wanted.from_hub or quantization is not None
        name = f"https://huggingface.co/{wanted.repository}" if linked else wanted.repository
        return self._follow(download, provider, name)

    def _follow(self, download: Download, provider: ModelDownloader, name: str) -> Job:
        if running := self._running(download):
            return running
        transfers = provider.download_model(name, quantization=download.quantization)
        return self._run(download, transfers)

    def _place(self) -> str:
        """LM Studio where it answers, else our own folder."""
        downloaders = [p.name for p in self._library.providers if isinstance(p, ModelDownloader)]
        well = {h.provider for h in self._healths() if h.state in {"ready", "no_models"}}
        if answering := [name for name in downloaders if name in well]:
            return answering[0]
        if self._embedded is not None:
            return self._embedded
        if downloaders:
            return downloaders[0]
        raise NotDownloadable(
            "There is no place to download models to.", hint="Set `embedded` to auto."
        )

    # -- both ------------------------------------------------------------------------------------

    def _running(self, download: Download) -> Job | None:
        for each in self._downloads.values():
            if each.same(download) and each.runs and each.job.ending is None:
                return each.job
        return None

    def _run(self, download: Download, transfers: AsyncGenerator[Transfer]) -> Job:
        self._downloads[download.job.id] = download
        for job_id in [i for i, each in self._downloads.items() if not each.runs][:-KEPT]:
            del self._downloads[job_id]

        async def work(job: Job) -> None:
            before = await self._models(download.provider)
            async with aclosing(transfers) as moving:
                try:
                    await download.follow(moving)
                finally:
                    if download.detached and job.ending is not None:
                        job.emit(
                            "notice",
                            code="download_goes_on",
                            message="LM Studio cannot be told to stop: it goes on downloading. "
                            "Pause it in LM Studio's own window.",
                        )
            after = await self._models(download.provider, max_age=0.0)
            download.done(_brought(before, after, download))

        return self._jobs.start(download.job, work)

    async def _models(self, provider: str, *, max_age: float = 5.0) -> Sequence[ModelInfo]:
        with suppress(DeskError):  # a list that cannot be had now spoils no download
            return await self._library.models_of(provider, max_age=max_age)
        return ()


def fits(choice: Choice, sample: HardwareSnapshot | None, ram_budget: int | None) -> Fits | None:
    """Where the model would run when nothing else does."""
    need = reckoned(
        ModelInfo(id="", provider="", name="", size_bytes=choice.size_bytes), USUAL_CONTEXT
    )
    if sample is None or need is None:
        return None
    if 0 < need <= sum(gpu.memory_total or 0 for gpu in sample.gpus):
        return "gpu"
    return "ram" if need <= (ram_budget or sample.memory_total * RAM_SHARE) else "no"


def _brought(
    before: Sequence[ModelInfo], after: Sequence[ModelInfo], download: Download
) -> str | None:
    """The full name of what arrived, as the provider lists it; None where that is not clear."""
    base = re.sub(r"[-_.]gguf$", "", download.model, flags=re.IGNORECASE).casefold()
    known = {model.id for model in before}
    new = [model for model in after if model.id not in known]
    named = [m for m in after if m.id.casefold().partition("@")[0] in (base, f"{base}:latest")]
    for found in ([m for m in new if m in named], new, named):
        exact = [m for m in found if m.quantization == download.quantization]
        if len(exact or found) == 1:
            return (exact or found)[0].full_name
    return None
