"""What the page takes from Gradio beyond its documented calls."""

import subprocess
import sys

LOOK = """
import sys
from fastapi import FastAPI
from app.page import mount_page

mount_page(FastAPI(), "http://127.0.0.1:9")
print("mcp" not in sys.modules)

import mcp.server
import gradio as gr
from app.client import DeskClient
from app.pages.layout import desk_blocks

plain = gr.Blocks()._queue
page = desk_blocks(DeskClient("http://127.0.0.1:9"))._queue
for name in ("sleep_when_free", "progress_update_sleep_when_free"):
    print(getattr(plain, name) < getattr(page, name))
"""


def test_the_page_brings_nothing_it_does_not_need_and_rests_while_nothing_happens() -> None:
    """Were these of another name, an idle desk would take three times the processor.

    In a process of its own: Gradio leaves event loops open where no server runs.
    """
    told = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    assert told.stdout.split() == ["True", "True", "True"], told.stderr
