"""Which addresses a tool server's sign-in may name, as a browser would read them."""

import re
from ipaddress import ip_address
from unicodedata import normalize
from urllib.parse import urlsplit

from core.tool_entries import ServerEntry
from infrastructure.tools.addresses import address_problem, is_local, unwrapped, url_problem

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def sign_in_problem(url: str, entry: ServerEntry) -> str:
    """Why an address that a server's sign-in names must not be used; empty where it may."""
    if problem := url_problem(url, allow_private=entry.allow_private):
        return problem
    written = urlsplit(url).hostname or ""
    host = _as_a_browser(written)
    if problem := _host_problem(host, written, allow_private=entry.allow_private):
        return problem
    if leads_here(host) and not leads_here(own_host(entry)):
        return f"{written} is this machine, which a server elsewhere must not send LM Desk to."
    return ""


def own_host(entry: ServerEntry) -> str:
    """Where the tool server itself is."""
    return _as_a_browser(urlsplit(entry.url).hostname or "")


def leads_here(host: str) -> bool:
    """Whether it is this machine, without asking anybody for its address."""
    try:
        return unwrapped(ip_address(host)).is_loopback
    except ValueError:
        return is_local(host) or host.endswith(".localhost")


def _as_a_browser(host: str) -> str:
    """Lower case, with one way to write each sign, and other scripts as they are looked up."""
    plain = normalize("NFKC", normalize("NFKC", host).casefold()).replace("。", ".")
    plain = plain.removesuffix(".")
    if plain.isascii():
        return plain
    try:
        return plain.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _host_problem(host: str, written: str, *, allow_private: bool) -> str:
    try:
        return address_problem(ip_address(host), written, allow_private)
    except ValueError:
        pass  # a name, or something that is neither
    if not _NAME.fullmatch(host):
        return f"{written!r} is no host's name."
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        # Browsers, and the system's own look-up, make an address of such a number.
        return f"{written} is a number that hides an address."
    # The name that is looked up may be another one than was written.
    return url_problem(f"https://{host}/", allow_private=allow_private)
