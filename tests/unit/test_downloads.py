"""Downloads without a network: names, files that belong together, room, and what a job tells."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from app.downloads_ui import choice_view, download_view, found_view
from core.chats import Problem
from core.download import DownloadInfo
from core.downloads import Downloads, fits
from core.errors import (
    BadParameter,
    HubFileNotFound,
    NotDownloadable,
    NotEnoughDisk,
)
from core.hardware import Gpu, GpuDriver, HardwareSnapshot
from core.hub import (
    Choice,
    HubFile,
    HubModel,
    HubRepository,
    Transfer,
    choices,
    is_safe_path,
    parse_wanted,
    pick,
    quantization_of,
)
from core.jobs import Job, JobService
from core.leftovers import Leftover, LeftoverNotFound
from core.library import ModelLibrary
from core.models import ModelInfo, ProviderHealth
from tests.fakes import FakeProvider

pytestmark = pytest.mark.anyio

GB = 10**9


def file(path: str, size: int = GB) -> HubFile:
    return HubFile(path=path, size_bytes=size, oid=f"{abs(hash(path)):x}")


# Names


@pytest.mark.parametrize(
    ("asked", "repository", "quantization", "path"),
    [
        ("qwen/qwen3-4b", "qwen/qwen3-4b", None, None),
        ("Qwen/Qwen3-4B-GGUF:q4_k_m", "Qwen/Qwen3-4B-GGUF", "Q4_K_M", None),
        ("qwen/qwen3-4b@Q8_0", "qwen/qwen3-4b", "Q8_0", None),
        ("https://huggingface.co/Qwen/Qwen3-4B-GGUF", "Qwen/Qwen3-4B-GGUF", None, None),
        ("hf.co/Qwen/Qwen3-4B-GGUF:Q6_K", "Qwen/Qwen3-4B-GGUF", "Q6_K", None),
        (
            "https://huggingface.co/a/b/blob/main/sub/x.gguf?download=true",
            "a/b",
            None,
            "sub/x.gguf",
        ),
        ("https://huggingface.co/a/b/resolve/main/x%20y.gguf", "a/b", None, "x y.gguf"),
    ],
)
def test_a_name_an_address_and_a_file_s_address_are_understood(
    asked: str, repository: str, quantization: str | None, path: str | None
) -> None:
    wanted = parse_wanted(asked)

    assert (wanted.repository, wanted.quantization, wanted.file) == (repository, quantization, path)


@pytest.mark.parametrize(
    "asked",
    [
        "qwen3",
        "../../etc/passwd",
        "a/..",
        "a/b/c",
        "a/b:Q4 K",
        ".hidden/model",
        "https://evil.example/a/b",
        "https://huggingface.co.evil.example/a/b",
        "https://huggingface.co/a/b/resolve/main/..%2F..%2Fx.gguf",
        "a/b?x=y",
        "a\\b/c",
    ],
)
def test_what_names_no_model_or_another_place_is_refused(asked: str) -> None:
    with pytest.raises(BadParameter):
        parse_wanted(asked)


@pytest.mark.parametrize(
    "path",
    [
        "../x.gguf",
        "a/../../x.gguf",
        "/etc/x.gguf",
        "a//x.gguf",
        "C:x.gguf",
        "a\\x.gguf",
        ".x.gguf",
        "x.gguf ",
        "x\n.gguf",
        "x.bin",
        "x.gguf.part",
        "a./x.gguf",
    ],
)
def test_a_path_from_the_hub_that_means_another_place_is_not_safe(path: str) -> None:
    assert not is_safe_path(path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("Qwen3-4B-Q4_K_M.gguf", "Q4_K_M"),
        ("model.q8_0.gguf", "Q8_0"),
        ("UD-Q4_K_XL/big-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("x-IQ2_XXS.gguf", "IQ2_XXS"),
        ("Q5_K_M/model.gguf", "Q5_K_M"),
        ("model.gguf", None),
    ],
)
def test_a_file_s_name_says_its_quantization(path: str, said: str | None) -> None:
    assert quantization_of(path) == said


# Files that belong together


def test_parts_and_the_projector_make_one_choice() -> None:
    offered = choices(
        [
            file("m-Q4_K_M.gguf", 4 * GB),
            file("Q8_0/m-Q8_0-00002-of-00002.gguf", 3 * GB),
            file("Q8_0/m-Q8_0-00001-of-00002.gguf", 5 * GB),
            file("mmproj-F32.gguf", 2 * GB),
            file("mmproj-F16.gguf", GB),
            file("imatrix.gguf"),
        ]
    )

    assert [(c.name, c.parts, c.vision, c.size_bytes // GB) for c in offered] == [
        ("m-Q4_K_M.gguf", 1, True, 5),
        ("Q8_0/m-Q8_0-00001-of-00002.gguf", 2, True, 9),
    ]
    assert [f.path for f in offered[1].files][-1] == "mmproj-F16.gguf"


def test_a_model_with_a_missing_part_is_not_offered() -> None:
    assert choices([file("m-00001-of-00003.gguf"), file("m-00003-of-00003.gguf")]) == []


def test_without_a_wish_the_usual_quantization_is_picked() -> None:
    offered = choices([file("m-Q2_K.gguf"), file("m-Q4_K_M.gguf"), file("m-Q8_0.gguf")])

    assert pick(offered, parse_wanted("a/b")).quantization == "Q4_K_M"
    assert pick(offered, parse_wanted("a/b:q8_0")).quantization == "Q8_0"
    assert pick(offered, parse_wanted("a/b", "m-Q2_K.gguf")).quantization == "Q2_K"


def test_what_is_not_there_is_answered_with_what_there_is() -> None:
    with pytest.raises(HubFileNotFound) as refused:
        pick(choices([file("m-Q2_K.gguf")]), parse_wanted("a/b:Q8_0"))
    assert refused.value.message == "a/b has no file Q8_0."
    assert refused.value.candidates == ("m-Q2_K.gguf",)

    both = choices([file("one-Q2_K.gguf"), file("two-Q2_K.gguf")])
    with pytest.raises(HubFileNotFound, match="Several files of a/b are Q2_K"):
        pick(both, parse_wanted("a/b:Q2_K"))


def test_where_a_model_fits() -> None:
    (choice,) = choices([file("m.gguf", 4 * GB)])

    assert fits(choice, machine(ram=64, gpu=8), None) == "gpu"
    assert fits(choice, machine(ram=64, gpu=2), None) == "ram"
    assert fits(choice, machine(ram=6), None) == "no"
    assert fits(choice, machine(ram=64), 3 * GB) == "no"
    assert fits(choice, None, None) is None


def machine(*, ram: int, gpu: int | None = None) -> HardwareSnapshot:
    gpus = (Gpu(index=0, name="G", memory_total=gpu * 2**30),) if gpu else ()
    return HardwareSnapshot(
        at=0.0,
        cpu_percent=0,
        cpu_count=1,
        memory_used=0,
        memory_total=ram * 2**30,
        swap_used=0,
        swap_total=0,
        gpus=gpus,
        driver=GpuDriver(state="ok", message=""),
    )


# Jobs


class FakeHub:
    def __init__(self, *paths: str) -> None:
        self.files = tuple(file(path) for path in paths)

    async def search(self, query: str, *, limit: int) -> list[HubModel]:
        return []

    async def repository(self, name: str) -> HubRepository:
        await asyncio.sleep(0)
        return HubRepository(id=name, revision="main", files=self.files)


class FakeFolder:
    """Brings a file in quarters; the last waits for `gate`."""

    def __init__(self, *, here: int = 0, free: int = 100 * GB) -> None:
        self.here = here
        self.space = free
        self.gate = asyncio.Event()
        self.gate.set()
        self.fetches = 0
        self.closed = 0
        self.then = lambda: None

    async def missing(self, repository: HubRepository, choice: Choice) -> int:
        return choice.size_bytes - self.here

    async def free(self) -> int:
        return self.space

    async def leftovers(self) -> list[Leftover]:
        return []

    async def remove_leftover(self, name: str) -> None:
        raise LeftoverNotFound(name)

    async def fetch(self, repository: HubRepository, choice: Choice) -> AsyncGenerator[Transfer]:
        self.fetches += 1
        try:
            total = choice.size_bytes
            yield Transfer(downloaded_bytes=0, total_bytes=total, stage="checking")
            for quarter in (1, 2, 3):
                yield Transfer(downloaded_bytes=quarter * total // 4, total_bytes=total)
            await self.gate.wait()
            yield Transfer(downloaded_bytes=total, total_bytes=total)
            self.then()
        finally:
            self.closed += 1


class FakeStudio(FakeProvider):
    """A provider that downloads itself."""

    def __init__(self, name: str = "lmstudio") -> None:
        super().__init__(name=name)
        self.asked: list[tuple[str, str | None]] = []
        self.gate = asyncio.Event()

    async def download_model(
        self, model: str, *, quantization: str | None = None
    ) -> AsyncGenerator[Transfer]:
        self.asked.append((model, quantization))
        yield Transfer(downloaded_bytes=1, total_bytes=4, bytes_per_second=2.0)
        await self.gate.wait()
        yield Transfer(downloaded_bytes=4, total_bytes=4)


class FakeLibrary(FakeStudio):
    """A provider with a library of its own."""

    def __init__(self) -> None:
        super().__init__("ollama")
        self.left = 0

    def library_name(self, model: str) -> str | None:
        return None if "://" in model else model

    async def download_model(
        self, model: str, *, quantization: str | None = None
    ) -> AsyncGenerator[Transfer]:
        try:
            async for each in super().download_model(model, quantization=quantization):
                yield each
        finally:
            self.left += 1


class Place:
    """Downloads with a resting engine and perhaps an LM Studio."""

    def __init__(
        self, folder: FakeFolder, *paths: str, studio: FakeStudio | None = None, engine: bool = True
    ) -> None:
        self.engine = FakeProvider(name="embedded")
        self.jobs = JobService()
        self.healths: list[ProviderHealth] = []
        self.downloads = Downloads(
            ModelLibrary([*([studio] if studio else []), self.engine], self.jobs),
            self.jobs,
            FakeHub(*(paths or ("m-Q4_K_M.gguf",))),
            folder,
            embedded="embedded" if engine else None,
            healths=lambda: self.healths,
            sample=lambda: None,
        )

    def well(self, provider: str) -> None:
        self.healths.append(
            ProviderHealth(provider=provider, kind="lmstudio", state="ready", url="", message="")
        )

    async def bring(self, model: str, *, provider: str | None = None) -> Job:
        job = await self.downloads.start(model, provider=provider)
        await job.ended.wait()
        return job


def progress(job: Job) -> list[object]:
    return [e.data["progress"] for e in job.log.read(0) if e.type == "download.progress"]


async def test_a_download_tells_how_far_it_is_and_which_model_it_brought() -> None:
    folder = FakeFolder()
    place = Place(folder)
    arrived = ModelInfo(id="a/b", provider="embedded", name="B", quantization="Q4_K_M")
    folder.then = lambda: place.engine.models.update({"a/b": arrived})

    job = await place.bring("a/b-GGUF")

    assert job.state == "done"
    events = [event.type for event in job.log.read(0)]
    assert (events[0], events[-2:]) == ("download.start", ["download.end", "job.end"])
    assert progress(job)[-1] == 1.0
    assert job.result == {
        "model_id": "embedded:a/b",
        "model": "a/b-GGUF",
        "file": "m-Q4_K_M.gguf",
        "total_bytes": GB,
    }
    (info,) = place.downloads.list()
    assert info == DownloadInfo(
        job_id=job.id,
        state="done",
        provider="embedded",
        model="a/b-GGUF",
        file="m-Q4_K_M.gguf",
        quantization="Q4_K_M",
        downloaded_bytes=GB,
        total_bytes=GB,
        model_id="embedded:a/b",
    )


async def test_the_same_download_is_made_once_at_a_time() -> None:
    folder = FakeFolder()
    folder.gate.clear()
    place = Place(folder, "m-Q4_K_M.gguf", "m-Q8_0.gguf")

    first, same = await asyncio.gather(place.downloads.start("a/b"), place.downloads.start("A/b"))
    other = await place.downloads.start("a/b:Q8_0")
    assert first is same
    assert other is not first
    folder.gate.set()
    await first.ended.wait()
    await other.ended.wait()

    assert folder.fetches == 2
    assert await place.downloads.start("a/b") is not first


async def test_stopping_closes_the_fetch_and_a_new_start_begins_where_it_was() -> None:
    folder = FakeFolder()
    folder.gate.clear()
    place = Place(folder)
    job = await place.downloads.start("a/b")
    while not folder.fetches or place.downloads.list()[0].downloaded_bytes < 3 * GB // 4:
        await asyncio.sleep(0)

    await place.jobs.stop(job.id)
    assert (job.state, folder.closed) == ("stopped", 1)

    folder.here = 3 * GB // 4
    again = await place.downloads.start("a/b")
    assert place.downloads.list()[0].downloaded_bytes == 3 * GB // 4
    folder.gate.set()
    await again.ended.wait()
    assert again.state == "done"


async def test_a_disk_without_room_is_noticed_before_anything_moves() -> None:
    folder = FakeFolder(free=int(1.04 * GB))

    with pytest.raises(NotEnoughDisk) as refused:
        await Place(folder).downloads.start("a/b")

    assert refused.value.message == "m-Q4_K_M.gguf needs 1.1 GB on the disk, and 1.0 GB are free."
    assert folder.fetches == 0
    assert (await Place(FakeFolder(free=int(1.06 * GB))).bring("a/b")).state == "done"
    assert (await Place(FakeFolder(free=GB // 2, here=GB * 3 // 4)).bring("a/b")).state == "done"


async def test_downloads_under_way_count_as_space_that_is_taken() -> None:
    folder = FakeFolder(free=int(1.2 * GB))
    folder.gate.clear()
    place = Place(folder, "m-Q4_K_M.gguf", "m-Q8_0.gguf")
    job = await place.downloads.start("a/b:Q8_0")

    with pytest.raises(NotEnoughDisk, match="with the downloads under way"):
        await place.downloads.start("a/b")
    await place.jobs.stop(job.id)

    folder.gate.set()
    assert (await place.bring("a/b")).state == "done"


async def test_lm_studio_downloads_where_it_answers_and_our_engine_where_not() -> None:
    studio, folder = FakeStudio(), FakeFolder()
    studio.gate.set()
    place = Place(folder, studio=studio)

    await place.bring("a/b")
    assert (studio.asked, folder.fetches) == ([], 1)

    place.well("lmstudio")
    await place.bring("a/b")
    await place.bring("a/b:q8_0")
    await place.bring("https://huggingface.co/a/b")
    await place.bring("a/b", provider="embedded")

    link = "https://huggingface.co/a/b"
    assert studio.asked == [("a/b", None), (link, "Q8_0"), (link, None)]
    assert folder.fetches == 2


async def test_stopping_one_of_lm_studio_s_says_that_it_goes_on() -> None:
    studio = FakeStudio()
    place = Place(FakeFolder(), studio=studio)
    place.well("lmstudio")
    job = await place.downloads.start("a/b")
    while not studio.asked or not place.downloads.list()[0].downloaded_bytes:
        await asyncio.sleep(0)
    (info,) = place.downloads.list()
    assert (info.bytes_per_second, info.seconds_left) == (2.0, 1.5)

    await place.jobs.stop(job.id)

    notices = [e.data["code"] for e in job.log.read(0) if e.type == "notice"]
    assert (job.state, notices) == ("stopped", ["download_goes_on"])


async def test_a_library_s_own_names_go_to_it_and_stopping_there_is_stopping() -> None:
    library = FakeLibrary()
    place = Place(FakeFolder(), studio=library)
    job = await place.downloads.start("tiny:3b", provider="ollama")
    assert await place.downloads.start("tiny:3b", provider="ollama") is job
    while not library.asked or not place.downloads.list()[0].downloaded_bytes:
        await asyncio.sleep(0)

    await place.jobs.stop(job.id)
    library.gate.set()
    await place.bring("https://huggingface.co/a/b:Q8_0", provider="ollama")

    notices = [e.data["code"] for e in job.log.read(0) if e.type == "notice"]
    assert (job.state, notices, place.downloads.list()[-1].goes_on) == ("stopped", [], False)
    assert library.asked == [("tiny:3b", None), ("https://huggingface.co/a/b", "Q8_0")]
    assert library.left == 2


async def test_where_nothing_can_download_it_says_so() -> None:
    with pytest.raises(NotDownloadable, match="no place"):
        await Place(FakeFolder(), engine=False).downloads.start("a/b")
    with pytest.raises(NotDownloadable, match="embedded cannot"):
        await Place(FakeFolder(), engine=False).downloads.start("a/b", provider="embedded")


# What the page says


def told(**more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "job_id": "j",
        "state": "running",
        "provider": "embedded",
        "model": "maker/Tiny-GGUF",
        "file": "Tiny-Q8_0.gguf",
        "quantization": "Q8_0",
        "downloaded_bytes": GB // 2,
        "total_bytes": 2 * GB,
    }
    return download_view(DownloadInfo(**facts | more))


def test_a_download_is_put_into_words() -> None:
    going = told(bytes_per_second=25e6, seconds_left=60.4)
    assert (going["name"], going["share"]) == ("Tiny", 0.25)
    assert going["words"] == "500 MB of 2.0 GB · 25 MB/s · 1 min left"
    assert told(bytes_per_second=25e6, seconds_left=3.2)["words"].endswith(" · 3 s left")
    assert told(stage="checking", seconds_left=9)["words"] == "Checking · 500 MB of 2.0 GB"
    assert told(total_bytes=None)["words"] == "500 MB"
    assert told(state="stopped")["words"] == "Stopped · 500 MB of 2.0 GB are here"
    assert told(state="done")["words"] == "2.0 GB · in the models folder"
    failed = Problem(code="not_enough_disk", message="The disk is full.", hint="Make room.")
    assert told(state="failed", error=failed)["words"] == "The disk is full."
    assert told(state="failed", error=failed)["hint"] == "Make room."
    assert "Pause it" in told(state="stopped", provider="lmstudio", goes_on=True)["hint"]
    assert told(state="stopped", provider="ollama")["hint"] == ""
    assert told(state="done", provider="ollama")["words"] == "2.0 GB · at ollama"


def test_what_the_hub_has_is_put_into_words() -> None:
    found = HubModel(id="a/b", downloads=3_400_000, likes=950, gated=True)
    assert found_view(found)["words"] == "3.4M downloads · 950 likes · asks for its terms"
    (choice,) = choices([file("m-Q8_0-00001-of-00002.gguf"), file("m-Q8_0-00002-of-00002.gguf")])
    view = choice_view(choice.model_copy(update={"fits": "no"}))
    assert (view["name"], view["words"]) == ("Q8_0", "2.0 GB · 2 parts")
    assert view["fits_words"] == "Probably too big"
