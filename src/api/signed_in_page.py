"""The page that tells a person how their sign-in to a tool server ended."""

import base64
from hashlib import sha256
from html import escape

from fastapi.responses import HTMLResponse

_STYLE = """
:root { --ground:#f6f7f9; --card:#fff; --ink:#171a21; --soft:#566072; --line:#c3c9d4; --act:#2f55d4 }
@media (prefers-color-scheme: dark) { :root { --ground:#0f1116; --card:#181b22; --ink:#e8eaf0;
  --soft:#a3abba; --line:#474f5e; --act:#8aa4ff } }
* { box-sizing:border-box }
body { margin:0; min-height:100dvh; display:grid; place-items:center; padding:16px;
  background:var(--ground); color:var(--ink); font:16px/1.5 system-ui, sans-serif }
main { width:100%; max-width:440px; padding:32px 28px; background:var(--card); border-radius:16px;
  border:1px solid var(--line); overflow-wrap:anywhere }
h1 { margin:0 0 8px; font-size:22px }
p { margin:0 0 16px; color:var(--soft) }
p:last-child { margin:0 }
a { color:var(--act) }
"""
_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    # Its own address holds a word that counts once.
    "referrer-policy": "no-referrer",
}


def signed_in_page(title: str, words: str, *, status: int = 200) -> HTMLResponse:
    """A heading and a sentence, which may hold text of strangers, and the way back."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)} - LM Desk</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(title)}</h1><p>{escape(words)}</p>"
        '<p>You can close this tab, or go <a href="../../../../">back to LM Desk</a>.</p>'
        "</main></body></html>"
    )
    return HTMLResponse(page, status, _HEADERS)
