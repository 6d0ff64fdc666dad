"""Pictures in the results of tools: the person sees them, a model that cannot see is told of them."""

import struct
import zlib
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.agent_upstream import Call, Say
from tests.e2e.conftest import Open
from tests.e2e.looking import accessibility_problems, sticking_out
from tests.e2e.office import Office, folded, timeline

WIDTH, HEIGHT = 240, 140


def png(width: int, height: int) -> bytes:
    """A picture in three colours."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    stripes = (b"\x3a\x6e\xa5", b"\xe8\xd8\xb0", b"\x5b\x8c\x5a")
    rows = b"".join(b"\0" + stripes[3 * y // height] * width for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def draws(office: Office, caption: str) -> None:
    office.pages.joinpath("lake.png").write_bytes(png(WIDTH, HEIGHT))
    call = Call("picture", {"page": "lake.png", "caption": caption})
    office.model.plays(Say("I look at the lake.", [call]), Say("It is calm."))


def is_seen(picture: Locator) -> None:
    """It is there and was decoded."""
    expect(picture).to_be_visible()
    assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)") == WIDTH


@pytest.mark.parametrize("caption", ["The lake at noon.", ""], ids=["with words", "alone"])
def test_a_picture_stands_in_the_timeline_and_a_model_that_cannot_see_is_told_of_it(
    office: Office, open_tab: Open, caption: str
) -> None:
    draws(office, caption)
    screen = open_tab(office.desk, office.chat())
    expect(screen.answers.last).to_contain_text("It is calm.")
    folded(screen).click()
    is_seen(timeline(screen).get_by_role("img", name="Picture 1 of the result"))
    expect(timeline(screen)).to_contain_text("1 picture")
    expect(timeline(screen)).to_contain_text(caption)
    assert accessibility_problems(screen.page) == ""
    told = office.model.last_result()
    assert told.endswith("[A picture, image/png: the person sees it, you cannot.]")
    assert told.startswith(caption)


def test_a_picture_fits_on_a_phone(office: Office, open_tab: Open, phone: Any) -> None:
    draws(office, "The lake at noon.")
    office.run()
    office.result()
    screen = open_tab(office.desk, None, phone)
    screen.page.get_by_role("button", name="More", exact=True).click()
    screen.page.get_by_role("button", name="Runs", exact=True).click()
    dialog = screen.page.get_by_role("dialog", name="Runs", exact=True)
    dialog.locator(".list button").first.click()
    is_seen(dialog.get_by_role("img", name="Picture 1 of the result"))
    assert sticking_out(screen.page) == []
