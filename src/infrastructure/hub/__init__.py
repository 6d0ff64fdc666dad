"""The Hugging Face hub: looking models up, and bringing their files into the models folder."""

from infrastructure.hub.client import HubClient
from infrastructure.hub.folder import HubFolder
from infrastructure.hub.lookup import HubLookup

__all__ = ["HubClient", "HubFolder", "HubLookup"]
