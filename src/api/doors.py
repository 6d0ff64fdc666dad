"""What stands before the app: the gateway at /v1, then the MCP server at /mcp."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from api.gateway.door import Gateway
from api.mcp_server.door import McpDoor


def with_doors(inner: ASGIApp, app: FastAPI) -> ASGIApp:
    """`inner` behind both; `app` is the API whose state they use."""
    return Gateway(McpDoor(inner, app), app)
