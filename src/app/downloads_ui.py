"""What the page's scripts ask about downloads: what the hub has, and how far each download is."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app import wording
from app.client import DeskClient
from app.replies import Reply
from core.download import DownloadInfo
from core.hub import Choice, HubModel

FITS = {"gpu": "Fits the GPU", "ram": "Fits in RAM", "no": "Probably too big"}
EMBEDDED = "embedded"
PLACES = {"lmstudio": "in LM Studio", EMBEDDED: "in the models folder"}
LM_STUDIO_GOES_ON = "LM Studio goes on with it by itself. Pause it in LM Studio's own window."


class DownloadAsked(Reply):
    """A file of the hub, or a name to find one by."""

    model: str
    file: str | None = None
    provider: str | None = None


def add_downloads(router: APIRouter, client: DeskClient) -> None:
    """The routes under /ui/downloads."""

    @router.get("/downloads")
    async def downloads() -> list[dict[str, Any]]:
        return [download_view(each) for each in await client.downloads()]

    @router.post("/downloads")
    async def download(asked: DownloadAsked) -> dict[str, Any]:
        job = await client.start_download(asked.model, file=asked.file, provider=asked.provider)
        return {"job_id": job.id}

    @router.get("/downloads/search")
    async def search(
        q: Annotated[str, Query(min_length=1, max_length=200)],
    ) -> list[dict[str, Any]]:
        return [found_view(each) for each in await client.search_hub(q)]

    @router.get("/downloads/files")
    async def files(model: str) -> dict[str, Any]:
        offer = await client.hub_files(model)
        return {
            "model": offer.model,
            "gated": offer.gated,
            "choices": [choice_view(each) for each in offer.choices],
        }


def download_view(download: DownloadInfo) -> dict[str, Any]:
    """A row of the list: a share (0 to 1, null when unknown) and the words for all the rest."""
    total = download.total_bytes
    return {
        **download.model_dump(
            include={"job_id", "state", "model", "file", "provider", "model_id", "quantization"}
        ),
        "name": re.sub(r"[-_.]gguf$", "", wording.short_model(download.model), flags=re.IGNORECASE),
        "share": min(1.0, download.downloaded_bytes / total) if total else None,
        "words": _words(download),
        "hint": _hint(download),
    }


def _words(download: DownloadInfo) -> str:
    if download.state == "done":
        there = PLACES.get(download.provider, f"at {download.provider}")
        size = f"{wording.size(download.total_bytes)}{wording.DOT}" if download.total_bytes else ""
        return f"{size}{there}"
    if download.error is not None:
        return download.error.message
    if download.state != "running":
        return f"Stopped{wording.DOT}{_moved(download)} are here"
    rate = download.bytes_per_second
    left = download.seconds_left
    parts = [
        wording.sentence_case(download.stage) if download.stage else None,
        _moved(download),
        f"{wording.size(round(rate))}/s" if rate and not download.stage else None,
        None if left is None or download.stage else f"{wording.duration(max(1, round(left)))} left",
    ]
    return wording.DOT.join(part for part in parts if part).replace(".0 s left", " s left")


def _moved(download: DownloadInfo) -> str:
    done = wording.size(download.downloaded_bytes) if download.downloaded_bytes else "0 MB"
    return f"{done} of {wording.size(download.total_bytes)}" if download.total_bytes else done


def _hint(download: DownloadInfo) -> str:
    if download.error is not None:
        return download.error.hint
    if download.goes_on:
        return LM_STUDIO_GOES_ON
    return ""


def found_view(model: HubModel) -> dict[str, Any]:
    """A search result."""
    facts = [
        f"{count(model.downloads)} downloads" if model.downloads is not None else None,
        f"{count(model.likes)} likes" if model.likes is not None else None,
        "asks for its terms" if model.gated else None,
    ]
    return {"id": model.id, "words": wording.DOT.join(fact for fact in facts if fact)}


def choice_view(choice: Choice) -> dict[str, Any]:
    """A model of a repository that can be downloaded."""
    facts = [
        wording.size(choice.size_bytes),
        f"{choice.parts} parts" if choice.parts > 1 else None,
        "sees images" if choice.vision else None,
    ]
    return {
        "file": choice.name,
        "name": choice.quantization or choice.name.rpartition("/")[2],
        "words": wording.DOT.join(fact for fact in facts if fact),
        "fits": choice.fits,
        "fits_words": FITS.get(choice.fits or "", ""),
    }


def count(number: int) -> str:
    """`950`, `12k`, `3.4M`."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + letter
    return str(number)
