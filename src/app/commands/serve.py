"""`lmdesk serve`, `lmdesk api` and `lmdesk gui`: the page, the API, or both."""

import os
import sys
import threading
import webbrowser
from argparse import Namespace
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from fastapi import FastAPI

from api.data_folder import require_writable
from api.settings import API_PORT, PAGE_PORT, Settings
from api.settings_sources import SettingsSources, read_sources
from api.token_file import with_token
from app.commands.logs import configure_logs
from app.doorway import House
from app.serve import listen, run_server


def serve(arguments: Namespace) -> int:
    """The page and the API in one process."""
    return _serve(arguments, whole_desk, port=PAGE_PORT, what="LM Desk", page=True)


def whole_desk(settings: Settings, sources: SettingsSources, own_url: str) -> Callable[[], House]:
    """What builds the page and the API."""
    _prepare_gradio(settings)

    def build() -> House:
        from api.doors import with_doors
        from api.main import create_app
        from app.page import mount_page

        app = create_app(settings, sources)
        page = mount_page(app, own_url, settings.token, root_path=_prefix(settings))
        return House(app=app, asgi=with_doors(page, app))

    return build


def api(arguments: Namespace) -> int:
    """The API alone."""

    def building(settings: Settings, sources: SettingsSources, own_url: str) -> Callable[[], House]:
        def build() -> House:
            from api.doors import with_doors
            from api.main import create_app

            app = create_app(settings, sources)
            return House(app=app, asgi=with_doors(app, app))

        return build

    return _serve(arguments, building, port=API_PORT, what="LM Desk's API", page=False)


def gui(arguments: Namespace) -> int:
    """The page alone; the API is elsewhere."""

    def building(settings: Settings, sources: SettingsSources, own_url: str) -> Callable[[], House]:
        api_url = settings.api_url or f"http://127.0.0.1:{API_PORT}"
        _prepare_gradio(settings)

        def build() -> House:
            from app.page import mount_page

            app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
            app.add_api_route("/livez", _alive)
            app.add_api_route("/readyz", _alive)
            return House(
                app=app, asgi=mount_page(app, api_url, settings.token, root_path=_prefix(settings))
            )

        return build

    return _serve(arguments, building, port=PAGE_PORT, what="LM Desk", page=True, keeps_data=False)


async def _alive() -> dict[str, str]:
    return {"status": "ok"}


def _serve(
    arguments: Namespace,
    building: Callable[[Settings, SettingsSources, str], Callable[[], House]],
    *,
    port: int,
    what: str,
    page: bool,
    keeps_data: bool = True,
) -> int:
    given = {key: getattr(arguments, key, None) for key in Settings.model_fields}
    sources = read_sources(given, config=arguments.config, defaults={"port": port})
    settings = sources.settings()
    configure_logs(settings.log_level)
    if keeps_data:
        require_writable(settings.data_dir)
    # Nobody chose a token out of a file, so the link is the only place to learn it.
    shows_link = page and settings.token is None
    settings = with_token(settings)
    with listen(settings) as taken:
        own_url = settings.url(port=taken.getsockname()[1])

        def welcome() -> None:
            shown = settings.public_url or own_url
            sys.stdout.write(f"{what} is at {shown}\n")
            if shows_link and settings.token is not None:
                link = f"{shown}/?token={quote(settings.token.get_secret_value())}"
                sys.stdout.write(f"Sign in with {link}\n")
            sys.stdout.flush()
            if page and _wants_browser(arguments.open):
                threading.Thread(target=webbrowser.open, args=(own_url,), daemon=True).start()

        run_server(settings, taken, building(settings, sources, own_url), on_ready=welcome)
    return 0


def _prefix(settings: Settings) -> str:
    """What a proxy in front takes off each path, as the public address tells."""
    return urlsplit(settings.public_url or "").path.rstrip("/")


def _prepare_gradio(settings: Settings) -> None:
    """Gradio reads these when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if not settings.data_dir.is_dir():
        return
    # Gradio's own default is one folder for all users of the machine.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(settings.data_dir / "uploads"))


def _wants_browser(asked: bool | None) -> bool:
    if asked is not None:
        return asked
    desktop = sys.platform in {"darwin", "win32"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return sys.stdout.isatty() and desktop
