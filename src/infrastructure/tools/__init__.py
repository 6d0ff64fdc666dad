"""Tool servers (MCP): where they are written down, how they are started, how they are spoken to."""

from infrastructure.tools.choices import ChoiceFile
from infrastructure.tools.door import ToolDoor
from infrastructure.tools.files import ConfigFiles
from infrastructure.tools.keys import KeyFile
from infrastructure.tools.places import usual_files
from infrastructure.tools.signing_in import SigningIn

__all__ = ["ChoiceFile", "ConfigFiles", "KeyFile", "SigningIn", "ToolDoor", "usual_files"]
