"""Which addresses a remote tool server may have: nothing may be reached that a stranger names."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

# Where clouds keep the keys of a machine; the link-local ones are refused with all their kind.
_METADATA = frozenset(
    map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"))
)
_METADATA_NAMES = ("metadata.google.internal", "metadata.goog", "instance-data")
_SHARED = ip_network("100.64.0.0/10")
_NAT64 = ip_network("64:ff9b::/96")


def url_problem(url: str, *, allow_private: bool) -> str:
    """Why this cannot be the address of a tool server; empty where it can."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"{url!r} is not an address."
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return f"{url!r} is not an address that begins with http:// or https://."
    if parts.username is not None or parts.password is not None:
        return "its address holds a name or a password; put that into its headers."
    if any(ord(sign) < 33 or ord(sign) == 127 for sign in url):
        return "its address holds blanks or control characters."
    if host.rstrip(".").lower().endswith(_METADATA_NAMES):
        return f"{host} is where a cloud keeps its keys."
    literal = _literal(host)
    if literal is not None and (problem := address_problem(literal, host, allow_private)):
        return problem
    if parts.scheme == "http" and not allow_private and not is_local(host):
        return "its address must begin with https://, or its entry needs allow_private."
    return ""


def address_problem(address: Address, host: str, allow_private: bool) -> str:
    """Why `host` must not be reached at this address; empty where it may."""
    plain = unwrapped(address)
    if plain.is_link_local or plain in _METADATA:
        return f"{host} is {plain}, where clouds keep their keys; that is never allowed."
    if plain.is_loopback:
        # A stranger's name that leads to this machine is a trick; localhost itself is not.
        if is_local(host) or allow_private:
            return ""
        return f"{host} leads to this machine ({plain})."
    if plain.is_multicast or plain.is_unspecified or plain.is_reserved:
        return f"{host} is {plain}, which is no server's address."
    if (plain.is_private or plain in _SHARED or not plain.is_global) and not allow_private:
        return f"{host} is {plain}, in a private network; its entry needs allow_private for that."
    return ""


def is_local(host: str) -> bool:
    """Whether this is one of this machine's own names."""
    name = host.rstrip(".").lower()
    literal = _literal(name)
    return name == "localhost" if literal is None else literal.is_loopback


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None


def unwrapped(address: Address) -> Address:
    """The IPv4 address an IPv6 one stands for, where it stands for one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
