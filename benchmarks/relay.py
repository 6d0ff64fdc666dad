"""The yardstick: the leanest proxy that FastAPI and aiohttp allow, which looks at no token.

It stands at about twice nginx's CPU per token (`docs/performance.md`), so figures of another machine,
or of a busy one, can be judged by their ratio to it.
"""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse


def relay_app(upstream: str) -> FastAPI:
    """Forwards chat completions, chunk by chunk as the socket hands them over."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/chat/completions")
    async def forward(request: Request) -> StreamingResponse:
        body = await request.body()
        answer = await app.state.client.post(f"{upstream}/v1/chat/completions", data=body)

        async def chunks() -> AsyncGenerator[bytes]:
            try:
                async for chunk in answer.content.iter_any():
                    yield chunk
            finally:
                answer.close()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return app


if __name__ == "__main__":
    port, upstream_url = sys.argv[1:]
    uvicorn.run(relay_app(upstream_url), port=int(port), log_config=None, access_log=False)
