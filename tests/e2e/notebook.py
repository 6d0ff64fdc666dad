"""A real MCP server on standard input and output with a notebook: tools that read, write, draw and take long."""

import asyncio
import base64
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ImageContent, TextContent, ToolAnnotations

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)


def main() -> None:
    pages = Path(sys.argv[1])
    server = MCPServer("notebook")

    @server.tool(annotations=READS)
    def read(page: str) -> str:
        """Reads a page."""
        return (pages / Path(page).name).read_text()

    @server.tool(annotations=WRITES)
    def write(page: str, text: str) -> str:
        """Writes a page anew."""
        (pages / Path(page).name).write_text(text)
        return f"{page} has {len(text)} characters now."

    @server.tool(annotations=READS, structured_output=False)
    def picture(page: str, caption: str = "") -> list[ImageContent | TextContent]:
        """Shows a drawing."""
        drawn = base64.b64encode((pages / Path(page).name).read_bytes()).decode()
        shown = ImageContent(type="image", data=drawn, mime_type="image/png")
        return [TextContent(type="text", text=caption), shown] if caption else [shown]

    @server.tool(annotations=READS)
    async def ponder() -> str:
        """Takes very long."""
        (pages / "pondering").touch()
        await asyncio.sleep(300)
        return "Nothing came of it."

    server.run()


if __name__ == "__main__":
    main()
