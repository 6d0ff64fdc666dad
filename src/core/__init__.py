"""The words and the rules of LM Desk. No I/O: the standard library, pydantic and anyio only."""
