"""Which call a piece of one belongs to. Servers number them, name them, do both, or neither."""

import uuid
from typing import Any

import orjson


class Call:
    """A call that the server itself recognised."""

    def __init__(self, index: int) -> None:
        self.index = index
        # Servers number their calls anew in each answer; a run needs names that never repeat.
        self.id = f"call_{uuid.uuid4().hex[:24]}"
        self.name = ""
        self.arguments: list[str] = []
        """In pieces, as they come."""
        self.theirs: str | None = None
        """The server's own name for it."""

    @property
    def whole(self) -> bool:
        """Whether its arguments are complete: nothing can follow them."""
        try:
            return isinstance(orjson.loads("".join(self.arguments)), dict)
        except orjson.JSONDecodeError:
            return False


class Calls:
    """Those of one answer, in order."""

    def __init__(self) -> None:
        self._all: list[Call] = []
        self._at: dict[int | str, Call] = {}
        """The newest one of each number the server gave."""

    def __bool__(self) -> bool:
        return bool(self._all)

    def new(self) -> Call:
        """One more."""
        call = Call(len(self._all))
        self._all.append(call)
        return call

    def meant(self, piece: dict[str, Any], place: int | None, arguments: str) -> Call:
        """The call this piece belongs to; a new one where it begins one.

        `place`: where it stands among the pieces that came with it, None if it came alone.
        """
        index, theirs = piece.get("index"), piece.get("id")
        index = index if isinstance(index, int | str) else None
        theirs = theirs if isinstance(theirs, str) and theirs else None
        function = piece.get("function")
        named = bool(isinstance(function, dict) and function.get("name"))
        call = self._known(index, theirs, place)
        if call is None or _begins_another(call, theirs, arguments, named=named):
            call = self.new()
        if index is not None:
            self._at[index] = call
        call.theirs = call.theirs or theirs
        return call

    def _known(self, index: int | str | None, theirs: str | None, place: int | None) -> Call | None:
        newest = self._all[-1] if self._all else None
        if index is not None:
            call = self._at.get(index)
            if call is None or theirs in (None, call.theirs):
                return call
            # A piece of an earlier one with the same number, or the first of a new one.
            return next((c for c in self._all if c.theirs == theirs), call)
        if theirs is not None:
            # Of pieces that come together, no two belong to one call.
            calls = self._all[place or 0 :]
            alone = newest if place is None else None
            return next((c for c in reversed(calls) if c.theirs == theirs), alone)
        if place is not None:
            return self._all[place] if place < len(self._all) else None
        return newest


def _begins_another(call: Call, theirs: str | None, arguments: str, *, named: bool) -> bool:
    """Some servers send the name with each piece of a call; then its own name is the same too."""
    if not named or not call.name:
        return False
    if theirs is not None and call.theirs is not None:
        return theirs != call.theirs
    return arguments.lstrip().startswith("{") and call.whole
