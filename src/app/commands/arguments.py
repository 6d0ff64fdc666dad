"""The command line: which commands there are, and which settings each takes."""

from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction, RawDescriptionHelpFormatter
from importlib.metadata import version
from pathlib import Path

from api.settings import API_PORT, PAGE_PORT, Settings

EPILOG = """\
Settings are taken from arguments, then LMDESK_… in the environment, then .env, then lmdesk.yaml.
Passwords are never arguments, which other users of the machine can read: set LMDESK_TOKEN.
"""
WHERE = ("host", "port")
BACK_END = (
    "data_dir",
    "lmstudio_url",
    "embedded",
    "models_dir",
    "engine_memory_budget",
    "hf_endpoint",
    "mcp_files",
    "allow_tool_commands",
    "approval_minutes",
)
UPKEEP = ("on_start", "idle_unload_minutes", "keep_models_within", "pinned_models")
DOOR = ("token_file", "public_url", "allowed_hosts", "log_level")


def build_parser() -> ArgumentParser:
    """The parser of `lmdesk`. Its result has `command` and, for each setting, a text or None."""
    parser = ArgumentParser(
        prog="lmdesk",
        description="LM Desk: a desk for the language models on your own machine.",
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lmdesk {version('lmdesk')}")
    # `lmdesk --port 9000` is `lmdesk serve --port 9000`.
    _add_server_options(parser, BACK_END + UPKEEP, port=PAGE_PORT)
    _add_open(parser)
    commands = parser.add_subparsers(dest="command", metavar="command", title="commands")

    serve = commands.add_parser("serve", help="the page and the API together (the default)")
    _add_server_options(serve, BACK_END + UPKEEP, port=PAGE_PORT, inherit=True)
    _add_open(serve, inherit=True)

    api = commands.add_parser("api", help="the API alone")
    _add_server_options(api, BACK_END + UPKEEP, port=API_PORT, inherit=True)

    gui = commands.add_parser("gui", help="the page alone, for an API elsewhere")
    _add_server_options(gui, ("api_url",), port=PAGE_PORT, inherit=True)
    _add_open(gui, inherit=True)

    _add_engine(commands.add_parser("engine", help="the built-in engine alone, as an LM Studio"))

    mcp = commands.add_parser("mcp", help="an MCP server for a program that starts it (stdio)")
    _add_server_options(mcp, BACK_END + UPKEEP, port=PAGE_PORT, inherit=True)

    doctor = commands.add_parser("doctor", help="look for what is wrong, and say what to do")
    _add_server_options(doctor, BACK_END, port=PAGE_PORT, inherit=True)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _add_server_options(
    parser: ArgumentParser, extra: tuple[str, ...], *, port: int, inherit: bool = False
) -> None:
    """One option a setting; the settings themselves check the values."""
    # Under a command, an option that is not given must not undo one given before the command.
    unset = SUPPRESS if inherit else None
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=unset, help="read this lmdesk.yaml"
    )
    for key in (*WHERE, *extra, *DOOR):
        shown = str(port) if key == "port" else _default(key)
        parser.add_argument(
            f"--{key.replace('_', '-')}",
            metavar=key.rpartition("_")[2].upper(),
            default=unset,
            help=f"{Settings.model_fields[key].description}{shown and f' ({shown})'}",
        )


def _default(key: str) -> str:
    default = Settings.model_fields[key].default
    return default if isinstance(default, str) else ""


def _add_open(parser: ArgumentParser, *, inherit: bool = False) -> None:
    parser.add_argument(
        "--open",
        action=BooleanOptionalAction,
        default=SUPPRESS if inherit else None,
        help="open the page in the browser (when started from a terminal on a desktop)",
    )


def _add_engine(parser: ArgumentParser) -> None:
    parser.add_argument("--host", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="the port to listen on (1234)")
    parser.add_argument(
        "--models",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="a folder with GGUF models; may be given more than once",
    )
    parser.add_argument(
        "--profile", choices=("0.3", "0.4"), default="0.4", help="the LM Studio to be like (0.4)"
    )
    parser.add_argument("--token", help="the API token to ask for; better set LMDESK_TOKEN")
    parser.add_argument(
        "--memory-budget", metavar="SIZE", help="memory the models may use, such as 8GiB"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="the folder LM Desk keeps its models in")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
