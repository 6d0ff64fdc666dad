"""What a hub of models offers: its repositories, and which of their files belong together."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict, computed_field

from core.errors import BadParameter, HubFileNotFound
from core.value import Value

Fits = Literal["gpu", "ram", "no"]

HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
# What suits most machines best, for whoever names no file.
PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "IQ4_XS", "Q8_0")
NAME_HINT = "Write it as owner/repository, owner/repository:Q4_K_M, or paste its address."

_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_PATH_PART = re.compile(r'(?!\.)[^\x00-\x1f\x7f\\/:*?"<>|]{1,180}')
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:IQ[1-4]_(?:XXS|XS|S|M|NL)|Q[2-8]_K(?:_(?:XXS|XS|S|M|L|XL))?"
    r"|Q[2-8]_[01](?:_[48]_[48])?|TQ[12]_0|MXFP4(?:_MOE)?|BF16|F16|F32))(?=$|[-._])",
    re.IGNORECASE,
)


class HubModel(Value):
    """A repository in a list of search results."""

    id: str
    """`owner/repository`."""
    downloads: int | None = None
    likes: int | None = None
    gated: bool = False
    """Only for those who accepted its terms on the hub."""
    updated_at: str | None = None
    """ISO 8601."""


class HubFile(Value):
    """A file of a repository."""

    path: str
    size_bytes: int
    oid: str
    """Changes whenever the content does."""
    sha256: str | None = None
    """None where the hub does not tell it."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class HubRepository(Value):
    """A repository at one revision, with its GGUF files."""

    id: str
    revision: str
    gated: bool = False
    files: tuple[HubFile, ...] = ()


class Choice(Value):
    """One model of a repository: all its parts, and the projector that lets it see."""

    # Its own JSON carries the computed size.
    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    """The path of its first part, which names it."""
    quantization: str | None
    parts: int
    vision: bool
    files: tuple[HubFile, ...]
    fits: Fits | None = None
    """Where it would run on this machine; None is "not known"."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class Offer(Value):
    """What a repository has for this machine."""

    model: str
    """`owner/repository`."""
    gated: bool
    choices: tuple[Choice, ...]


class Wanted(Value):
    """What somebody asked to download."""

    repository: str
    quantization: str | None = None
    file: str | None = None
    from_hub: bool = False
    """It was given as an address of the hub, not just as a name."""


class Transfer(Value):
    """How far a download is."""

    downloaded_bytes: int = 0
    total_bytes: int | None = None
    bytes_per_second: float | None = None
    """As the other side measures it; None when it does not."""
    stage: str | None = None
    """What it does instead of downloading, such as `checking the file`."""


def parse_wanted(model: str, file: str | None = None) -> Wanted:
    """Read a name or an address. Raises BadParameter."""
    text = model.strip()
    linked = text.startswith(("https://", "http://")) or text.split("/", 1)[0] in HUB_HOSTS
    named: str | None = None
    if linked:
        text, named = _from_address(text)
    name, quantization = _split_quantization(text)
    owner, slash, repository = name.partition("/")
    if not (slash and _NAME.fullmatch(owner) and _NAME.fullmatch(repository)):
        raise BadParameter(f"{model.strip()[:200]!r} does not name a model.", hint=NAME_HINT)
    file = file or named
    if file is not None and not is_safe_path(file):
        raise BadParameter("That is not the name of a GGUF file.", hint=NAME_HINT)
    return Wanted(repository=name, quantization=quantization, file=file, from_hub=linked)


def is_safe_path(path: str) -> bool:
    """Whether a hub's path names a GGUF file and can mean no other place on any system."""
    parts = path.split("/")
    return (
        path.lower().endswith(".gguf")
        and len(path) <= 500
        and all(_PATH_PART.fullmatch(part) and part[-1] not in ". " for part in parts)
    )


def choices(files: Iterable[HubFile]) -> list[Choice]:
    """The models in these files, smallest first. A model with missing parts is none."""
    groups: dict[str, list[HubFile]] = defaultdict(list)
    projectors: list[HubFile] = []
    for file in sorted(files, key=lambda each: each.path):
        if "mmproj" in file.name.lower():
            projectors.append(file)
        elif is_safe_path(file.path) and "imatrix" not in file.name.lower():
            groups[_PART.sub("", _stem(file.path))].append(file)
    projector = _best_projector(projectors)
    found = [_choice(stem, group, projector) for stem, group in groups.items() if _whole(group)]
    return sorted(found, key=lambda each: (each.size_bytes, each.name))


def pick(offered: Sequence[Choice], wanted: Wanted) -> Choice:
    """The one that is meant. Raises HubFileNotFound with those there are."""
    fitting = [each for each in offered if _means(wanted, each)]
    if not (wanted.file or wanted.quantization):
        preferred = [c for q in PREFERRED for c in offered if c.quantization == q]
        fitting = (preferred or list(offered))[:1]
    if len(fitting) == 1:
        return fitting[0]
    asked = wanted.file or wanted.quantization or "GGUF"
    names = [each.name for each in fitting or offered]
    if fitting:
        message = f"Several files of {wanted.repository} are {asked}."
    elif not offered:
        message = f"{wanted.repository} has no GGUF files."
    else:
        message = f"{wanted.repository} has no file {asked}."
    raise HubFileNotFound(message, hint=_told(names), candidates=names)


def quantization_of(path: str) -> str | None:
    """What a file's name says about its number format, such as `Q4_K_M`."""
    for text in (_PART.sub("", _stem(path.rpartition("/")[2])), path.rpartition("/")[0]):
        if found := _QUANTIZATION.findall(text):
            return str(found[-1]).upper()
    return None


def as_size(count: float) -> str:
    """Bytes as disks are sold: `2.5 GB`."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} GB"
    return f"{max(1, round(count / 10**6))} MB"


def _from_address(text: str) -> tuple[str, str | None]:
    """`owner/repository[:quantization]` and the file an address names."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.hostname not in HUB_HOSTS:
        raise BadParameter(f"{text[:200]!r} is not an address of Hugging Face.", hint=NAME_HINT)
    path = [unquote(part) for part in parts.path.split("/") if part]
    file = "/".join(path[4:]) if path[2:3] in (["blob"], ["resolve"]) else None
    return "/".join(path[:2]), file or None


def _split_quantization(text: str) -> tuple[str, str | None]:
    for sign in ":@":
        name, found, quantization = text.partition(sign)
        if found:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", quantization):
                raise BadParameter(f"{quantization[:80]!r} is no quantization.", hint=NAME_HINT)
            return name, quantization.upper()
    return text, None


def _choice(stem: str, group: list[HubFile], projector: HubFile | None) -> Choice:
    return Choice(
        name=group[0].path,
        quantization=quantization_of(f"{stem}.gguf"),
        parts=len(group),
        vision=projector is not None,
        files=(*group, *([projector] if projector else [])),
    )


def _whole(group: list[HubFile]) -> bool:
    part = _PART.search(_stem(group[0].path))
    return len(group) == (int(part[2]) if part else 1)


def _best_projector(projectors: list[HubFile]) -> HubFile | None:
    """One is enough; half precision is what everything runs."""
    order = {"F16": 0, "BF16": 1, "Q8_0": 2}
    safe = [each for each in projectors if is_safe_path(each.path)]
    return min(
        safe, key=lambda p: (order.get(quantization_of(p.path) or "", 3), p.path), default=None
    )


def _means(wanted: Wanted, choice: Choice) -> bool:
    if wanted.file:
        return any(wanted.file in (file.path, file.name) for file in choice.files[: choice.parts])
    return bool(wanted.quantization) and choice.quantization == wanted.quantization


def _told(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"There are: {shown}{more}." if names else "Only GGUF files can be run."


def _stem(path: str) -> str:
    return path[: -len(".gguf")] if path.lower().endswith(".gguf") else path
