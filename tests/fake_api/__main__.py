"""`python -m tests.fake_api [port [prefix]]`: the page over a furnished world, to look at."""

import sys

import uvicorn

from app.page import mount_page
from tests.fake_api import fake_api, furnished


def main(port: int, root_path: str) -> None:
    """Serve the furnished world and the page over it."""
    app = fake_api(furnished())
    page = mount_page(app, api_url=f"http://127.0.0.1:{port}", root_path=root_path)
    uvicorn.run(page, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    asked = sys.argv[1:]
    main(int(asked[0]) if asked else 7871, asked[1] if asked[1:] else "")
