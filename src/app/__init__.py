"""What a person sees: the Gradio page, the HTTP client behind it and the `lmdesk` command."""
