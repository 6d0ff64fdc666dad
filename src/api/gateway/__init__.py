"""The OpenAI-compatible door at `/v1`: every provider's models, for any client."""
