"""Foreign text as a screen should show it: with all signs written out that nobody would see."""

import json
import re
import unicodedata

# Turned directions, zero widths, controls, line and paragraph separators.
_UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Co", "Cn", "Cs")
# Blank, though Unicode counts them among letters, marks and symbols; and spaces that look like one.
_BLANK = re.compile(
    "[\u00a0\u034f\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200a\u202f\u205f\u2800"
    "\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """The text with all that a screen would not show written out, such as a turned direction."""
    return "".join(f"\\u{{{ord(sign):x}}}" if _is_unseen(sign) else sign for sign in text)


def visible_json(value: object, *, indent: int | None = None) -> str:
    """JSON that means exactly this value, and in which every sign can be seen."""
    written = json.dumps(value, ensure_ascii=False, indent=indent)
    # Outside of its strings JSON has only signs that can be seen, and the lines of `indent`.
    return "".join(
        _escaped(sign) if sign != "\n" and _is_unseen(sign) else sign for sign in written
    )


def _is_unseen(sign: str) -> bool:
    if " " <= sign <= "~":
        return False
    return unicodedata.category(sign) in _UNSEEN or _BLANK.match(sign) is not None


def _escaped(sign: str) -> str:
    return json.dumps(sign)[1:-1]
