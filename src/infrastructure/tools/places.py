"""Where the programs that use tool servers keep their lists of them."""

import os
import sys
from pathlib import Path


def usual_files() -> tuple[Path, ...]:
    """The lists of LM Studio, Claude Desktop, Claude Code, Cursor and VS Code on this system.

    In the order in which they count; they need not exist.
    """
    home = Path.home()
    programs = _programs(home)
    return (
        home / ".lmstudio" / "mcp.json",
        home / ".cache" / "lm-studio" / "mcp.json",
        programs / "Claude" / "claude_desktop_config.json",
        home / ".claude.json",
        home / ".cursor" / "mcp.json",
        programs / "Code" / "User" / "mcp.json",
    )


def _programs(home: Path) -> Path:
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")


def workspace_of(file: Path) -> Path | None:
    """The project a file belongs to; None for a file of the whole machine's user."""
    if file.parent.name in (".cursor", ".vscode") and file.parent.parent != Path.home():
        return file.parent.parent
    return file.parent if file.name == ".mcp.json" else None
