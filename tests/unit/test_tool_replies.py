"""What a tool server's answer becomes here."""

import base64

import mcp_types as mcp
import pytest

from infrastructure.tools.replies import result_of

PNG = base64.b64encode(b"\x89PNG and so on").decode()


def picture(data: str, mime_type: str) -> mcp.CallToolResult:
    return mcp.CallToolResult(
        content=[mcp.ImageContent(type="image", data=data, mime_type=mime_type)]
    )


@pytest.mark.parametrize("data", [PNG, f"{PNG[:8]}\n{PNG[8:]}", f"data:image/png;base64,{PNG}"])
def test_a_picture_is_its_plain_data(data: str) -> None:
    result = result_of(picture(data, "image/png"))
    assert [(each.media_type, each.data) for each in result.images] == [("image/png", PNG)]
    assert not result.text


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [("abc", "image/png"), ("", "image/png"), ("<svg>", "image/png"), (PNG, ""), (PNG, "nonsense")],
)
def test_a_picture_that_cannot_be_read_is_a_note_and_no_end_of_the_run(
    data: str, mime_type: str
) -> None:
    """A model that sees was given it as it was, and its run failed."""
    result = result_of(picture(data, mime_type))
    assert not result.images
    assert result.text == f"[a picture that cannot be read, {mime_type!r}]"
