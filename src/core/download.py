"""Download: one download's job, how far it is, how fast it goes and how long it still takes."""

import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from core.chats import Problem
from core.hub import Choice, Transfer
from core.jobs import Job, JobState
from core.value import Value

# What the rate is taken over, and how often watchers hear of it.
RATE_SECONDS = 5.0
EVENT_SECONDS = 0.25
EVENT_STEP = 0.001
SILENCE_SECONDS = 5.0


class DownloadInfo(Value):
    """One download, running or over."""

    job_id: str
    state: JobState
    provider: str
    model: str
    """`owner/repository`, or a name of LM Studio's catalogue."""
    file: str | None
    quantization: str | None
    downloaded_bytes: int = 0
    total_bytes: int | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    stage: str | None = None
    model_id: str | None = None
    """Once it is done: the full name in the list of models."""
    reason: str | None = None
    error: Problem | None = None
    goes_on: bool = False
    """Stopped here; the provider cannot be told to stop."""


class Download:
    """A download's job, and how far it is."""

    def __init__(
        self,
        provider: str,
        model: str,
        choice: Choice | None,
        quantization: str | None = None,
        file: str | None = None,
        *,
        detached: bool = False,
    ) -> None:
        """`detached`: the provider goes on with it when nobody follows any more."""
        self.provider = provider
        self.model = model
        self.choice = choice
        self.quantization = choice.quantization if choice else quantization
        self.file = choice.name if choice else file
        self.detached = detached
        self.job = Job("download", model_id=f"{provider}:{model}")
        self.missing = 0
        self._at = Transfer(total_bytes=choice.size_bytes if choice else None)
        self._rates: deque[tuple[float, int]] = deque()
        self._left: float | None = None
        self._rate: float | None = None
        self._told = (-SILENCE_SECONDS, -1.0, "")
        self.job.enter("downloading", None, stage="starting")

    @property
    def runs(self) -> bool:
        return self.job.state == "running"

    def same(self, other: "Download") -> bool:
        mine, its = (
            (each.provider, each.model.casefold(), each.file, each.quantization)
            for each in (self, other)
        )
        return mine == its

    def brings(self, files: Sequence[str]) -> bool:
        """Whether one of these, written `owner/repository/file`, is of this download."""
        own = self.choice.files if self.choice else ()
        return any(f"{self.model}/{each.name}" in files for each in own)

    def expect(self, missing: int) -> None:
        """Start from what is here already."""
        self.missing = missing
        total = self._at.total_bytes or 0
        self._at = Transfer(downloaded_bytes=total - missing, total_bytes=total)

    def info(self) -> DownloadInfo:
        job = self.job.info
        return DownloadInfo(
            job_id=job.id,
            state=job.state,
            provider=self.provider,
            model=self.model,
            file=self.file,
            quantization=self.quantization,
            downloaded_bytes=self._at.downloaded_bytes,
            total_bytes=self._at.total_bytes,
            bytes_per_second=self._rate if self.runs else None,
            seconds_left=self._left if self.runs else None,
            stage=self._at.stage if self.runs else None,
            model_id=self.job.result.get("model_id"),
            reason=job.reason,
            error=job.error,
            goes_on=self.detached and job.state == "stopped",
        )

    async def follow(self, transfers: AsyncGenerator[Transfer]) -> None:
        self.job.emit(
            "download.start",
            model_id=self.job.model_id,
            model=self.model,
            file=self.file,
            quantization=self.quantization,
            downloaded_bytes=self._at.downloaded_bytes,
            total_bytes=self._at.total_bytes,
        )
        async for transfer in transfers:
            self._take(transfer)
        self._tell(time.monotonic())

    def done(self, model_id: str | None) -> None:
        self.job.result = {
            "model_id": model_id,
            "model": self.model,
            "file": self.file,
            "total_bytes": self._at.total_bytes,
        }
        self.job.enter("downloading", 1.0, exact=True)
        self.job.emit("download.end", **self.job.result)

    def _take(self, transfer: Transfer) -> None:
        now = time.monotonic()
        if transfer.stage or transfer.downloaded_bytes < self._at.downloaded_bytes:
            self._rates.clear()  # a file begun anew, or bytes that were here already
        self._at = transfer
        if transfer.total_bytes is not None and self.choice:
            self.missing = transfer.total_bytes - transfer.downloaded_bytes
        if not transfer.stage:
            self._rates.append((now, transfer.downloaded_bytes))
        self._measure(now)
        told, share, stage = self._told
        moved = abs((self._share or 0.0) - share) >= EVENT_STEP or stage != (transfer.stage or "")
        if now - told >= (EVENT_SECONDS if moved else SILENCE_SECONDS):
            self._tell(now)
        self.job.enter("downloading", self._share, exact=True, stage=transfer.stage)

    @property
    def _share(self) -> float | None:
        total = self._at.total_bytes
        return min(1.0, self._at.downloaded_bytes / total) if total else None

    def _measure(self, now: float) -> None:
        self._rate = self._at.bytes_per_second
        while len(self._rates) > 2 and now - self._rates[0][0] > RATE_SECONDS:
            self._rates.popleft()
        if self._rate is None and len(self._rates) > 1:
            (began, first), (last, count) = self._rates[0], self._rates[-1]
            self._rate = (count - first) / (last - began) if last > began else None
        self._left = None
        if self._rate and self._at.total_bytes is not None:
            self._left = max(0.0, (self._at.total_bytes - self._at.downloaded_bytes) / self._rate)

    def _tell(self, now: float) -> None:
        self._told = (now, self._share or 0.0, self._at.stage or "")
        self.job.emit(
            "download.progress",
            model_id=self.job.model_id,
            progress=None if self._share is None else round(self._share, 5),
            downloaded_bytes=self._at.downloaded_bytes,
            total_bytes=self._at.total_bytes,
            bytes_per_second=None if self._rate is None else round(self._rate),
            seconds_left=None if self._left is None else round(self._left, 1),
            exact=True,
            stage=self._at.stage,
        )
