"""The interactive documentation, from files of our own: it works without the internet."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

ASSETS = Path(__file__).parent / "assets"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>LM Desk API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="./docs-assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="./docs-assets/swagger-ui-bundle.js"></script>
<script src="./docs-assets/docs.js"></script>
</body>
</html>
"""


def install(app: FastAPI) -> None:
    """Serve `/docs`."""
    app.mount("/docs-assets", StaticFiles(directory=ASSETS), name="docs-assets")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE)
