"""Numbers that grow when something a screen shows has changed."""

from collections import OrderedDict

# Chats beyond these were not looked at for long; a screen that comes back to one reads it anyway.
REMEMBERED_CHATS = 2000


class Revisions:
    """One number for the list of chats, and one for the messages of each chat."""

    def __init__(self) -> None:
        self.chats = 1
        self._by_chat: OrderedDict[str, int] = OrderedDict()

    def of(self, chat_id: str) -> int:
        return self._by_chat.get(chat_id, 0)

    def touch(self, chat_id: str) -> None:
        """This chat, or its place in the list, changed."""
        self.chats += 1
        self._by_chat[chat_id] = self.chats
        self._by_chat.move_to_end(chat_id)
        if len(self._by_chat) > REMEMBERED_CHATS:
            self._by_chat.popitem(last=False)
