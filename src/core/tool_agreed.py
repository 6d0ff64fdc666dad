"""What somebody said yes to against what a tool server is now, in words for people."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from core.tool_entries import AgreedServer, ServerChoices, ServerEntry, decides_on_code, same_place
from core.tool_server import ServerDifference


def agreed_to(entry: ServerEntry, inherit_env: Iterable[str] = ()) -> AgreedServer:
    """What a yes to this is about."""
    inherited = (f"{name} (LM Desk's own)" for name in set(inherit_env))
    return AgreedServer(
        line=entry.line,
        cwd=entry.cwd,
        variables=tuple(sorted([*entry.env, *inherited])),
        code={
            name: hashlib.sha256(value.get_secret_value().encode()).hexdigest()
            for name, value in sorted(entry.env.items())
            if decides_on_code(name)
        },
        headers=tuple(sorted(name.lower() for name in entry.headers)),
        private=entry.allow_private,
        client_id=entry.client_id,
    )


def differences(entry: ServerEntry, choices: ServerChoices) -> tuple[ServerDifference, ...]:
    """What is different since somebody said yes; empty where nobody did, or nobody kept it."""
    if choices.trusted is None:
        return ()
    found: list[ServerDifference] = []
    if choices.agreed is not None:
        found += _compared(choices.agreed, agreed_to(entry, choices.inherit_env), entry)
    if not same_place(choices.place, entry.place):
        found.append(_difference("program", choices.place, entry.place, " → "))
    return tuple(found)


def no_longer(entry: ServerEntry, choices: ServerChoices, changes: Mapping[str, str]) -> str:
    """The sentence for one that is not what somebody said yes to; `changes` are those of its tools."""
    if choices.trusted != entry.fingerprint(choices.inherit_env):
        stdio = entry.transport == "stdio"
        what = "command" if stdio else "address"
        also = ", or what it gets," if stdio else ""
        return (
            f"The {what} of the tool server {entry.name}{also} is not the one somebody said yes to."
        )
    if not same_place(choices.place, entry.place):
        before, now = (" → ".join(each) for each in (choices.place, entry.place))
        return f"{entry.command} of {entry.name} is {now} now; somebody said yes to {before}."
    tools = "; ".join(f"{tool}: {change}" for tool, change in sorted(changes.items()))
    return f"The tools of {entry.name} are not the ones somebody said yes to ({tools})."


def _compared(
    before: AgreedServer, now: AgreedServer, entry: ServerEntry
) -> Iterable[ServerDifference]:
    remote = entry.transport == "http"
    pairs = [
        ("address" if remote else "command", [before.line], [now.line]),
        ("folder", [before.cwd or "your home folder"], [now.cwd or "your home folder"]),
        ("variables", before.variables, now.variables),
        ("headers", before.headers, now.headers),
        ("may be in a private network", [_yes(before.private)], [_yes(now.private)]),
        ("client id", [before.client_id], [now.client_id]),
    ]
    for what, old, new in pairs:
        if tuple(old) != tuple(new):
            yield _difference(what, old, new)
    for name in sorted({*before.code, *now.code}):
        if name in before.code and name in now.code and before.code[name] != now.code[name]:
            yield ServerDifference(what=f"value of {name}", before="another one", now=entry.shown)


def _difference(
    what: str, before: Sequence[str], now: Sequence[str], between: str = ", "
) -> ServerDifference:
    return ServerDifference(
        what=what, before=between.join(before) or "none", now=between.join(now) or "none"
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
