"""Downloads over real sockets: a scripted hub, a scripted LM Studio, and the API in front."""

import asyncio
import errno
import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import (
    BadParameter,
    DownloadDamaged,
    HubModelNotFound,
    HubNeedsToken,
    HubRejected,
    HubUnreachable,
    NotEnoughDisk,
)
from core.hub import Choice, HubRepository, choices
from core.leftovers import LeftoverInUse, LeftoverNotFound
from infrastructure.hub import HubClient, HubFolder, HubLookup
from infrastructure.hub.part import Part
from tests import tinygguf
from tests.desk import DeskUnderTest, run_desk
from tests.hub import ScriptedHub
from tests.servers import ScriptedLMStudio, ScriptedModel
from tests.sockets import free_port, json_reply, serve, until

pytestmark = pytest.mark.anyio

MODEL = "maker/tiny-GGUF"
PATH = "tiny-Q4_K_M.gguf"
BYTES = random.Random(1).randbytes(3_000_000)
QUICK = (0.01, 0.01, 0.01)


class Rig:
    """A hub and a folder; `repository` and `choice` are the first file's."""

    def __init__(self, hub: ScriptedHub, client: HubClient, root: Path, folder: HubFolder) -> None:
        self.hub = hub
        self.lookup = HubLookup(client)
        self.root = root
        self.folder = folder

    async def first(self) -> tuple[HubRepository, Choice]:
        repository = await self.lookup.repository(next(iter(self.hub.repositories)))
        return repository, choices(repository.files)[0]

    async def fetch(self) -> list[int]:
        """All of it; the figures it told."""
        return [t.downloaded_bytes async for t in self.folder.fetch(*await self.first())]

    def files(self) -> dict[str, int]:
        """What lies in the folder: path → size."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        return {path.relative_to(self.root).as_posix(): path.stat().st_size for path in found}

    async def break_off(self, *, behind: int) -> None:
        """Fetch until so much is here, then cancel."""

        async def run() -> None:
            await self.fetch()

        task = asyncio.create_task(run())
        await until(lambda: sum(self.files().values()) >= behind)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


@asynccontextmanager
async def rig(
    tmp_path: Path,
    files: dict[str, bytes] | None = None,
    *,
    token: str | None = None,
    hub: ScriptedHub | None = None,
    disk_free: Callable[[Path], int] = lambda _: 10**12,
) -> AsyncGenerator[Rig]:
    hub = hub or ScriptedHub({MODEL: files or {PATH: BYTES}})
    async with serve(hub) as url:
        hub.store = url.replace("127.0.0.1", "localhost")
        client = HubClient(url, token=SecretStr(token) if token else None, silence_seconds=5)
        root = tmp_path / "models"
        try:
            yield Rig(
                hub, client, root, HubFolder(root, client, retry_seconds=QUICK, disk_free=disk_free)
            )
        finally:
            await client.aclose()


# Looking up


async def test_search_lists_repositories_and_passes_over_what_it_cannot_read(
    tmp_path: Path,
) -> None:
    hub = ScriptedHub({"a/qwen-GGUF": {}, "b/Qwen2": {}, "c/other": {}})
    hub.gated = {"b/Qwen2"}
    async with rig(tmp_path, hub=hub) as it:
        found = await it.lookup.search("qwen", limit=5)
        assert [(each.id, each.gated) for each in found] == [
            ("a/qwen-GGUF", False),
            ("b/Qwen2", True),
        ]
        assert hub.asked[0].query["filter"] == ["gguf"]

        hub.answers["/api/models"] = (200, {}, b'[7, {"id": null}, {"id": "d/e", "likes": 1}]')
        assert [each.id for each in await it.lookup.search("x", limit=5)] == ["d/e"]
        hub.answers["/api/models"] = (200, {}, b"<html>sign in to the hotel's network</html>")
        with pytest.raises(HubRejected, match="not the hub"):
            await it.lookup.search("x", limit=5)


async def test_files_that_would_lie_elsewhere_are_not_there(tmp_path: Path) -> None:
    files = {"../../evil.gguf": b"x", "/etc/evil.gguf": b"x", PATH: b"good", "x.safetensors": b"x"}
    async with rig(tmp_path, files) as it:
        repository, _ = await it.first()

        assert [each.path for each in repository.files] == [PATH]


async def test_an_unknown_model_a_private_one_and_no_network_are_told_apart(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        with pytest.raises(HubModelNotFound, match="no/such: The hub has no such model"):
            await it.lookup.repository("no/such")
        it.hub.token = "hf_secret"
        with pytest.raises(HubModelNotFound, match="to strangers"):
            await it.lookup.repository(MODEL)
        it.hub.answers[f"/api/models/{MODEL}"] = (503, {}, b"")
        with pytest.raises(HubUnreachable, match="trouble of its own"):
            await it.lookup.repository(MODEL)

    nowhere = HubClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(HubUnreachable, match="cannot be reached"):
        await HubLookup(nowhere).search("x", limit=5)
    await nowhere.aclose()


async def test_the_hub_s_own_library_reads_the_scripted_hub_as_we_do(tmp_path: Path) -> None:
    """So that what is scripted here is what a hub is."""
    library = pytest.importorskip("huggingface_hub")
    async with serve(ScriptedHub({MODEL: {PATH: BYTES}})) as url:
        api = library.HfApi(endpoint=url, token=False)
        theirs = await asyncio.to_thread(api.model_info, MODEL, files_metadata=True)
        found = await asyncio.to_thread(lambda: [m.id for m in api.list_models(search="tiny")])
        client = HubClient(url)
        ours = await HubLookup(client).repository(MODEL)
        assert [each.id for each in await HubLookup(client).search("tiny", limit=5)] == found
        await client.aclose()

    assert theirs.sha == ours.revision
    told = [(f.rfilename, f.size, f.lfs.sha256) for f in theirs.siblings if f.lfs]
    assert told == [(f.path, f.size_bytes, f.sha256) for f in ours.files]


# Bringing files


async def test_a_file_arrives_whole_in_lm_studio_s_layout(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        told = await it.fetch()

        assert it.files() == {f"{MODEL}/{PATH}": len(BYTES)}
        assert (it.root / MODEL / PATH).read_bytes() == BYTES
        assert told == sorted(told)
        assert told[-1] == len(BYTES)
        await it.fetch()
        assert len(it.hub.downloads()) == 1


async def test_parts_and_projector_come_together_and_appear_together(tmp_path: Path) -> None:
    files = {
        "Q8_0/big-Q8_0-00001-of-00002.gguf": BYTES[:400_000],
        "Q8_0/big-Q8_0-00002-of-00002.gguf": BYTES[400_000:700_000],
        "mmproj-F16.gguf": BYTES[:100_000],
    }
    async with rig(tmp_path, files) as it:
        seen = set()
        async for transfer in it.folder.fetch(*await it.first()):
            assert transfer.total_bytes == 800_000
            seen |= {name for name in it.files() if name.endswith(".gguf")}

        assert seen == set()
        assert it.files() == {
            f"{MODEL}/big-Q8_0-00001-of-00002.gguf": 400_000,
            f"{MODEL}/big-Q8_0-00002-of-00002.gguf": 300_000,
            f"{MODEL}/mmproj-F16.gguf": 100_000,
        }


async def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    files = {"Q4_0/model.gguf": b"four", "Q8_0/model.gguf": b"eight"}
    async with rig(tmp_path, files) as it:
        repository = await it.lookup.repository(MODEL)
        for choice in choices(repository.files):
            _ = [step async for step in it.folder.fetch(repository, choice)]

        assert set(it.files()) == {f"{MODEL}/Q4_0-model.gguf", f"{MODEL}/Q8_0-model.gguf"}


async def test_a_cancel_keeps_what_arrived_and_the_next_goes_on_at_that_byte(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as it:
        it.hub.hold_at = 1_500_000
        await it.break_off(behind=1_048_576)
        ((name, arrived),) = it.files().items()
        assert name.endswith(".part")
        assert await it.folder.missing(*await it.first()) == len(BYTES) - arrived

        it.hub.may_go.set()
        told = await it.fetch()

        assert [asked.start for asked in it.hub.downloads()] == [0, arrived]
        assert told[0] == arrived
        assert it.files() == {f"{MODEL}/{PATH}": len(BYTES)}
        assert (it.root / MODEL / PATH).read_bytes() == BYTES


async def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.cut_after = [1_300_000, 0, 0, 1_200_000, 0]
        await it.fetch()

        starts = [asked.start for asked in it.hub.downloads()]
        assert starts == sorted(starts)
        assert len(starts) == 6
        assert (it.root / MODEL / PATH).read_bytes() == BYTES


async def test_a_hub_that_stays_away_fails_the_download_and_keeps_the_part(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.cut_after = [1_300_000, 0, 0, 0, 0]
        with pytest.raises(HubUnreachable):
            await it.fetch()

        assert [name.endswith(".part") for name in it.files()] == [True]
        assert sum(it.files().values()) >= 1_000_000


async def test_a_server_without_ranges_is_asked_for_everything_again(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.hold_at = 1_500_000
        await it.break_off(behind=1_048_576)
        it.hub.may_go.set()
        it.hub.knows_ranges = False
        await it.fetch()

        assert (it.root / MODEL / PATH).read_bytes() == BYTES


async def test_a_part_that_was_changed_meanwhile_is_found_out(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.hold_at = 1_500_000
        await it.break_off(behind=1_048_576)
        (part,) = it.root.rglob("*.part")
        part.write_bytes(b"x" * part.stat().st_size)
        it.hub.may_go.set()

        with pytest.raises(DownloadDamaged):
            await it.fetch()
        assert it.files() == {}
        await it.fetch()
        assert (it.root / MODEL / PATH).read_bytes() == BYTES


async def test_a_wrong_checksum_deletes_the_file_and_says_so(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.lies_about = {PATH}
        with pytest.raises(DownloadDamaged) as refused:
            await it.fetch()

        assert refused.value.message == (
            f"{PATH} arrived damaged: its checksum is not the hub's. It was deleted."
        )
        assert it.files() == {}


async def test_a_new_version_replaces_the_old_one_and_its_part(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.hold_at = 1_500_000
        await it.break_off(behind=1_048_576)
        it.hub.may_go.set()
        it.hub.repositories[MODEL] = {PATH: BYTES[:2_000_000]}
        await it.fetch()
        assert it.files() == {f"{MODEL}/{PATH}": 2_000_000}

        it.hub.repositories[MODEL] = {PATH: BYTES}
        await it.fetch()
        assert it.files() == {f"{MODEL}/{PATH}": len(BYTES)}


async def test_two_choices_that_share_a_projector_bring_it_once(tmp_path: Path) -> None:
    files = {
        "m-Q4_0.gguf": BYTES[:200_000],
        "m-Q8_0.gguf": BYTES[:400_000],
        "mmproj.gguf": BYTES[:1_000_000],
    }
    async with rig(tmp_path, files) as it:
        repository = await it.lookup.repository(MODEL)

        async def bring(choice: Choice) -> None:
            _ = [step async for step in it.folder.fetch(repository, choice)]

        await asyncio.gather(*(bring(choice) for choice in choices(repository.files)))

        assert set(it.files()) == {f"{MODEL}/{name}" for name in files}
        asked = [each.path for each in it.hub.downloads()]
        assert sum("mmproj" in path for path in asked) == 1


async def test_a_disk_that_fills_up_says_so_and_keeps_the_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Part.write

    def write(part: Part, chunk: bytes) -> None:
        if part.size + len(chunk) > 2_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(part, chunk)

    async with rig(tmp_path) as it:
        with monkeypatch.context() as patched:
            patched.setattr(Part, "write", write)
            with pytest.raises(NotEnoughDisk, match="The disk is full"):
                await it.fetch()
        assert sum(it.files().values()) > 1_000_000

        await it.fetch()
        assert (it.root / MODEL / PATH).read_bytes() == BYTES


# Who gets what


async def test_the_token_goes_to_the_hub_and_never_to_its_store(tmp_path: Path) -> None:
    async with rig(tmp_path, token="hf_secret") as it:
        it.hub.token = "hf_secret"
        await it.fetch()

        (store,) = it.hub.downloads()
        assert "authorization" not in store.headers
        others = [asked for asked in it.hub.asked if asked is not store]
        assert {asked.headers.get("authorization") for asked in others} == {"Bearer hf_secret"}


async def test_a_gated_model_says_where_to_accept_its_terms(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.gated = {MODEL}
        with pytest.raises(HubNeedsToken) as refused:
            await it.fetch()

        assert "LMDESK_HF_TOKEN" in refused.value.hint


@pytest.mark.parametrize(
    "target",
    ["http://cdn.example/x.gguf", "ftp://127.0.0.1/x", "http://user:pass@127.0.0.1/x", "file:///x"],
)
async def test_a_redirect_to_an_unsafe_address_is_not_followed(tmp_path: Path, target: str) -> None:
    async with rig(tmp_path) as it:
        repository, choice = await it.first()
        path = f"/{MODEL}/resolve/{repository.revision}/{PATH}"
        it.hub.answers[path] = (302, {"Location": target}, b"")
        with pytest.raises(HubRejected, match="not safe"):
            _ = [step async for step in it.folder.fetch(repository, choice)]


async def test_redirects_in_a_circle_end(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.hub.answers["/api/models"] = (307, {"Location": "/api/models"}, b"")
        with pytest.raises(HubRejected, match="without an end"):
            await it.lookup.search("x", limit=5)
        assert len(it.hub.asked) == 6


@pytest.mark.parametrize("address", ["http://hub.example", "ftp://hub.example", "hub.example"])
def test_a_hub_that_is_neither_encrypted_nor_here_is_refused(address: str) -> None:
    with pytest.raises(BadParameter):
        HubClient(address)


# Over the API


class DownloadingStudio(ScriptedLMStudio):
    """An LM Studio that downloads: a step with each look, after which the model is listed."""

    def __init__(self, *, steps: int = 4, ends: str = "completed", **more: Any) -> None:
        super().__init__(models=[ScriptedModel("old/model")], **more)
        self.steps = steps
        self.ends = ends
        self.looks = 0

    async def _route(self, asked: Any, receive: Any, send: Any) -> None:
        if self.profile != "0.4" or "/download" not in asked.path:
            await super()._route(asked, receive, send)
        elif asked.method == "POST":
            started = {"job_id": "job_1", "status": "downloading", "total_size_bytes": 4000}
            await json_reply(send, 200, started)
        elif self.looks < self.steps:
            self.looks += 1
            at = {"job_id": "job_1", "status": "downloading", "total_size_bytes": 4000}
            at |= {"downloaded_bytes": self.looks * 1000, "bytes_per_second": 500.0}
            await json_reply(send, 200, at)
        elif self.ends == "failed":
            await json_reply(send, 200, {"status": "failed", "error": "The disk said no."})
        else:
            self.models["new/model"] = ScriptedModel("new/model")
            await json_reply(send, 200, {"job_id": "job_1", "status": self.ends})


async def ended(desk: DeskUnderTest, job: dict[str, Any]) -> dict[str, Any]:
    """The job's end."""
    async with asyncio.timeout(60):
        events = await desk.events(job["id"])
    return events[-1]


async def test_lm_studio_s_own_downloads_are_followed_to_the_model_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(monkeypatch)
    studio = DownloadingStudio()
    async with serve(studio) as url, run_desk(tmp_path, lmstudio_url=url) as desk:
        await desk.get("/api/v1/models/")
        answer = await desk.post("/api/v1/downloads", json={"model": "new/model:Q4_K_M"})
        assert answer.status_code == 202
        job = answer.json()
        assert job["kind"] == "download"
        events = await desk.events(job["id"])
        (listed,) = (await desk.get("/api/v1/downloads")).json()

    told = [e["downloaded_bytes"] for e in events if e["type"] == "download.progress"]
    assert told == sorted(told)
    assert events[-1]["status"] == "done"
    assert events[-1]["result"]["model_id"] == "lmstudio:new/model"
    assert (listed["state"], listed["model_id"]) == ("done", "lmstudio:new/model")
    (asked,) = studio.requests("/api/v1/models/download")
    assert asked.body == {
        "model": "https://huggingface.co/new/model",
        "quantization": "Q4_K_M",
    }


async def test_what_lm_studio_has_already_is_done_at_once(tmp_path: Path) -> None:
    studio = ScriptedLMStudio()
    studio.answers["POST", "/api/v1/models/download"] = (200, {"status": "already_downloaded"})
    async with serve(studio) as url, run_desk(tmp_path, lmstudio_url=url) as desk:
        job = (await desk.post("/api/v1/downloads", json={"model": "qwen/qwen3-4b"})).json()

        end = await ended(desk, job)
        assert (end["status"], end["result"]["model_id"]) == ("done", "lmstudio:qwen/qwen3-4b")


async def test_lm_studio_s_failures_are_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(monkeypatch)
    async with (
        serve(DownloadingStudio(ends="failed")) as url,
        run_desk(tmp_path, lmstudio_url=url) as desk,
    ):
        job = (await desk.post("/api/v1/downloads", json={"model": "new/model"})).json()
        end = await ended(desk, job)
    assert end["error"]["code"] == "download_failed"
    assert "The disk said no." in end["error"]["message"]

    async with (
        serve(ScriptedLMStudio(profile="0.3")) as url,
        run_desk(tmp_path, lmstudio_url=url) as desk,
    ):
        job = (await desk.post("/api/v1/downloads", json={"model": "new/model"})).json()
        end = await ended(desk, job)
    assert end["error"]["code"] == "not_downloadable"


def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at LM Studio's downloads as often as a test can wait for."""
    from infrastructure.providers.lmstudio import downloads, provider

    quick = partial(downloads.download, poll_seconds=0.02)
    monkeypatch.setattr(provider, "download", quick)


@asynccontextmanager
async def desk_with_hub(hub: ScriptedHub, tmp_path: Path) -> AsyncGenerator[DeskUnderTest]:
    """Our engine, and no LM Studio."""
    async with (
        serve(hub) as url,
        run_desk(
            tmp_path / "data",
            lmstudio_url=f"http://127.0.0.1:{free_port()}",
            embedded="auto",
            hf_endpoint=url,
        ) as desk,
    ):
        yield desk


# What broken-off downloads leave


async def test_what_a_broken_off_download_left_is_listed_and_deleted_and_begins_anew(
    tmp_path: Path,
) -> None:
    async with rig(tmp_path) as it:
        assert await it.folder.leftovers() == []
        it.hub.hold_at = 1_000_000
        await it.break_off(behind=800_000)
        (left,) = await it.folder.leftovers()
        assert {left.name: left.bytes} == it.files()
        assert left.file == f"{MODEL}/{PATH}"

        await it.folder.remove_leftover(left.name)

        assert (it.files(), await it.folder.leftovers()) == ({}, [])
        it.hub.may_go.set()
        await it.fetch()
        assert it.files() == {f"{MODEL}/{PATH}": len(BYTES)}
        assert [each.start for each in it.hub.downloads()] == [0, 0]


async def test_a_file_that_is_being_brought_is_no_leftover_and_is_not_deleted(
    tmp_path: Path,
) -> None:
    files = {"big-00001-of-00002.gguf": BYTES, "big-00002-of-00002.gguf": BYTES}
    async with rig(tmp_path, files) as it:
        it.hub.hold_at = 1_000_000
        await it.break_off(behind=800_000)
        (left,) = await it.folder.leftovers()
        task = asyncio.create_task(it.fetch())
        await until(lambda: len(it.hub.downloads()) == 2)

        assert await it.folder.leftovers() == []
        with pytest.raises(LeftoverInUse):
            await it.folder.remove_leftover(left.name)
        it.hub.may_go.set()
        await task
        assert set(it.files()) == {f"{MODEL}/{name}" for name in files}


async def test_only_what_downloads_left_can_be_deleted(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        outside = tmp_path / "outside" / "model"
        for folder in (outside, it.root / "maker" / "model"):
            folder.mkdir(parents=True)
            (folder / "model.gguf").write_bytes(b"whole")
            (folder / "model.gguf.abc123.part").write_bytes(b"part")
            (folder / "notes.part").write_bytes(b"mine")
        (it.root / "linked").symlink_to(tmp_path / "outside")
        (it.root / "maker" / "model" / "link.gguf.abc123.part").symlink_to(outside / "model.gguf")
        before = it.files()

        assert [each.name for each in await it.folder.leftovers()] == [
            "maker/model/model.gguf.abc123.part"
        ]
        for name in (
            "maker/model/model.gguf",
            "maker/model/notes.part",
            "maker/model/link.gguf.abc123.part",
            "linked/model/model.gguf.abc123.part",
            "../outside/model/model.gguf.abc123.part",
            "maker/../maker/model/model.gguf.abc123.part",
            str(it.root / "maker" / "model" / "model.gguf.abc123.part"),
            "",
        ):
            with pytest.raises(LeftoverNotFound):
                await it.folder.remove_leftover(name)
        assert it.files() == before
        assert len(list(outside.iterdir())) == 3


async def test_the_api_lists_and_deletes_them(tmp_path: Path) -> None:
    hub = ScriptedHub({MODEL: {PATH: BYTES}})
    hub.hold_at = 1_000_000
    async with desk_with_hub(hub, tmp_path) as desk:
        started = (await desk.post("/api/v1/downloads", json={"model": MODEL})).json()
        place = "/api/v1/downloads/parts"
        folder = tmp_path / "data" / "models"
        await until(lambda: sum(p.stat().st_size for p in folder.rglob("*.part")) > 800_000)
        assert (await desk.get(place)).json() == []
        await desk.post(f"/api/v1/jobs/{started['id']}/stop")
        await ended(desk, started)
        (left,) = (await desk.get(place)).json()
        assert left["file"] == f"{MODEL}/{PATH}"
        assert len((await desk.get("/api/v1/downloads")).json()) == 1

        strange = await desk.delete(f"{place}/..%2F..%2Flmdesk.db")
        assert (strange.status_code, strange.json()["code"]) == (404, "leftover_not_found")
        gone = await desk.delete(f"{place}/{left['name']}")
        assert (gone.status_code, gone.content) == (204, b"")

        assert (await desk.get(place)).json() == []
        assert (await desk.get("/api/v1/downloads")).json() == []
        assert list(folder.rglob("*.part")) == []


@pytest.mark.engine
async def test_a_model_from_the_hub_is_in_the_engine_s_list_when_its_job_is_done(
    tmp_path: Path,
) -> None:
    tiny = tinygguf.parrot(tmp_path / "parrot.gguf").read_bytes()
    hub = ScriptedHub({"maker/Parrot-GGUF": {"Parrot-Q8_0.gguf": tiny}})
    async with desk_with_hub(hub, tmp_path) as desk:
        found = (await desk.get("/api/v1/downloads/search", params={"q": "parrot"})).json()
        assert [each["id"] for each in found] == ["maker/Parrot-GGUF"]
        offer = (
            await desk.get("/api/v1/downloads/files", params={"model": "maker/Parrot-GGUF"})
        ).json()
        (choice,) = offer["choices"]
        assert (choice["quantization"], choice["size_bytes"]) == ("Q8_0", len(tiny))

        answer = await desk.post("/api/v1/downloads", json={"model": "maker/Parrot-GGUF"})
        assert answer.status_code == 202, answer.text
        end = await ended(desk, answer.json())
        assert end["status"] == "done"
        assert end["result"]["model_id"] == "embedded:maker/Parrot"
        assert "maker/Parrot" in [m["id"] for m in (await desk.get("/api/v1/models/")).json()]

        loaded = await desk.post(
            "/api/v1/models/load", json={"model_id": end["result"]["model_id"]}
        )
        assert loaded.json()["success"] is True


async def test_stopping_over_the_api_ends_the_transfer_and_a_new_start_resumes(
    tmp_path: Path,
) -> None:
    hub = ScriptedHub({MODEL: {PATH: BYTES}})
    hub.hold_at = 1_500_000
    async with serve(hub) as url, run_desk(tmp_path, hf_endpoint=url, embedded="auto") as desk:
        asked = {"model": MODEL, "provider": "embedded"}
        job = (await desk.post("/api/v1/downloads", json=asked)).json()
        same = (await desk.post("/api/v1/downloads", json=asked)).json()
        assert same["id"] == job["id"]
        root = tmp_path / "models"
        await until(lambda: any(p.stat().st_size >= 1_048_576 for p in root.rglob("*.part")))
        stopped = (await desk.post(f"/api/v1/jobs/{job['id']}/stop")).json()
        assert stopped["state"] == "stopped"
        (part,) = root.rglob("*.part")
        arrived = part.stat().st_size

        hub.may_go.set()
        again = (await desk.post("/api/v1/downloads", json=asked)).json()
        end = await ended(desk, again)

    assert end["status"] == "done"
    assert [each.start for each in hub.downloads()] == [0, arrived]
    assert (root / MODEL / PATH).read_bytes() == BYTES


async def test_refusals_have_a_status_a_code_and_a_sentence(tmp_path: Path) -> None:
    hub = ScriptedHub({MODEL: {PATH: BYTES}})
    async with serve(hub) as url, run_desk(tmp_path, hf_endpoint=url, embedded="auto") as desk:

        async def refused(model: str, provider: str = "embedded") -> tuple[int, str]:
            asked = {"model": model, "provider": provider}
            answer = await desk.post("/api/v1/downloads", json=asked)
            return answer.status_code, answer.json()["code"]

        assert await refused("no/such") == (404, "hub_model_not_found")
        assert await refused(f"{MODEL}:Q8_0") == (404, "hub_file_not_found")
        assert await refused("../../x") == (422, "bad_parameter")
        assert await refused(MODEL, "nobody") == (404, "provider_not_found")
        assert (await desk.get("/api/v1/downloads/search")).status_code == 422

    nowhere = f"http://127.0.0.1:{free_port()}"
    async with run_desk(tmp_path, hf_endpoint=nowhere, embedded="auto") as desk:
        answer = await desk.get("/api/v1/downloads/search", params={"q": "x"})
        assert (answer.status_code, answer.json()["code"]) == (503, "hub_unreachable")
        assert "internet" in answer.json()["hint"]
