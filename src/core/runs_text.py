"""Text that can be sent and kept, whoever wrote it."""

from typing import Any


def clean(value: Any) -> Any:
    """The same without halves of characters, which UTF-8 cannot hold."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [clean(each) for each in value]
    if isinstance(value, dict):
        return {clean(str(key)): clean(each) for key, each in value.items()}
    return value
