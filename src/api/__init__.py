"""The internal door: HTTP in, core words out. Only `api.wiring` knows the adapters."""
