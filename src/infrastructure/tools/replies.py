"""What tool servers answer, in our words."""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any

import mcp_types as mcp

from core.tools import Tool, ToolImage, ToolResult

# About what a token is in English and JSON.
_CHARACTERS_PER_TOKEN = 4
_IMAGE_TYPE = re.compile(r"image/[a-z0-9.+-]+", re.IGNORECASE)


def tool_of(server: str, tool: mcp.Tool) -> Tool:
    """One tool as the server lists it."""
    hints = tool.annotations
    return Tool(
        server=server,
        name=tool.name,
        description=tool.description or "",
        arguments=dict(tool.input_schema),
        read_only=hints.read_only_hint if hints else None,
        destructive=hints.destructive_hint if hints else None,
        open_world=hints.open_world_hint if hints else None,
        tokens=tokens_of(tool.name, tool.description or "", tool.input_schema),
    )


def tokens_of(name: str, description: str, arguments: Any) -> int:
    """About what this costs in each request."""
    written = {"name": name, "description": description, "parameters": arguments}
    return len(json.dumps(written, ensure_ascii=False)) // _CHARACTERS_PER_TOKEN + 1


def result_of(result: mcp.CallToolResult) -> ToolResult:
    """What a call gave back."""
    texts, images = _parts(result.content)
    structured = result.structured_content
    if not texts and structured is not None:
        texts = [json.dumps(structured, ensure_ascii=False)]
    return ToolResult(
        text="\n".join(texts),
        is_error=bool(result.is_error),
        images=tuple(images),
        structured=structured if isinstance(structured, dict) else None,
    )


def _parts(content: Iterable[mcp.ContentBlock]) -> tuple[list[str], list[ToolImage]]:
    texts: list[str] = []
    images: list[ToolImage] = []
    for block in content:
        match block:
            case mcp.TextContent():
                texts.append(block.text)
            case mcp.ImageContent():
                if image := _image(block):
                    images.append(image)
                else:
                    texts.append(f"[a picture that cannot be read, {block.mime_type[:80]!r}]")
            case mcp.AudioContent():
                texts.append(f"[audio, {block.mime_type}, {_bytes_in(block.data)} bytes]")
            case mcp.ResourceLink():
                texts.append(f"[{block.name}: {block.uri}]")
            case mcp.EmbeddedResource():
                texts.append(_resource(block.resource))
    return texts, images


def _image(block: mcp.ImageContent) -> ToolImage | None:
    """None where the data is no base64 or the type is none of a picture."""
    data = "".join(block.data.split())
    # Some servers give the whole address instead of its data.
    if data.startswith("data:"):
        data = data.partition(",")[2]
    try:
        known = _IMAGE_TYPE.fullmatch(block.mime_type) and base64.b64decode(data, validate=True)
    except ValueError:
        return None
    return ToolImage(media_type=block.mime_type, data=data) if known else None


def _resource(resource: mcp.TextResourceContents | mcp.BlobResourceContents) -> str:
    if isinstance(resource, mcp.TextResourceContents):
        return resource.text
    return f"[{resource.uri}, {_bytes_in(resource.blob)} bytes]"


def _bytes_in(data: str) -> int:
    try:
        return len(base64.b64decode(data))
    except ValueError:
        return 0
