"""Arguments as a person sees them: every sign can be seen, and reading them back changes nothing."""

import json
import unicodedata
from typing import Any

import pytest

from app.runs_ui import Decided, approval_view, call_view
from app.runs_words import named, readable
from core.agents import AgentLimits
from core.errors import BadParameter
from core.runs import Approval, CallRecord, RunInfo
from core.visible import visible

SIGNS = {
    "right to left override": "\u202e",
    "zero width space": "\u200b",
    "zero width joiner": "\u200d",
    "byte order mark": "\ufeff",
    "no-break space": "\u00a0",
    "hangul filler": "\u3164",
    "variation selector": "\ufe0f",
    "tag": "\U000e0041",
    "line separator": "\u2028",
    "delete": "\x7f",
    "bell": "\x07",
    "isolate": "\u2066",
}


@pytest.mark.parametrize("sign", SIGNS.values(), ids=SIGNS.keys())
def test_no_argument_hides_a_sign_and_editing_starts_from_exactly_what_was_asked(
    sign: str,
) -> None:
    short: dict[str, Any] = {"cmd": f"echo {sign}live", f"a{sign}b": [1.5, None, True, "äß漢🙂"]}
    for given in (short, {**short, "long": f"x\n{sign}" * 40}):
        shown = readable(given)

        assert json.loads(shown) == given
        assert sign not in shown
        assert f"\\u{ord(sign):04x}" in shown or ord(sign) > 0xFFFF
        assert "äß漢🙂" in shown
        assert sign not in named(given)


def test_the_call_and_its_approval_show_the_name_and_the_reason_without_hidden_signs() -> None:
    evil = "wri\u202ete"
    approval = Approval(
        call_id="c",
        server="box",
        tool=evil,
        arguments={"path": "\u202egpj.exe"},
        arguments_hash="h",
        why=f"box.{evil} brought in text.",
        requested_at=0.0,
        expires_at=1.0,
    )
    call = CallRecord(
        id="c", server="box", tool=evil, arguments=approval.arguments, state="waiting"
    )
    run = RunInfo(id="r", task="t", model_id="lmstudio:m", limits=AgentLimits(), created_at=0.0)
    for view in (approval_view(approval, now=0.0), call_view(call, run, now=0.0)):
        texts = " ".join(
            value for name, value in view.items() if isinstance(value, str) and name != "tool"
        )
        assert "\u202e" not in texts
        assert json.loads(view["arguments"]) == approval.arguments


def test_edited_arguments_keep_each_digit_and_each_sign() -> None:
    given = {"id": 12345678901234567891, "share": 1.0, "text": "a\u202eb"}
    said = Decided(decision="approve", written=readable(given)).said()
    assert said == {"decision": "approve", "arguments": given}
    assert isinstance(said["arguments"]["share"], float)
    with pytest.raises(BadParameter):
        Decided(decision="approve", written="{").said()


def test_every_format_sign_is_written_out_and_common_letters_are_not() -> None:
    every = [chr(number) for number in range(0x110000) if unicodedata.category(chr(number)) == "Cf"]
    assert visible("ab\u202ec") == "ab\\u{202e}c"
    assert all(visible(sign) == f"\\u{{{ord(sign):x}}}" for sign in every)
    for plain in ("Grüße, 你好!", "שלום", "日本語", "🙂👍"):
        assert visible(plain) == plain
