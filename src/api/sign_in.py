"""Signing in with a browser: the page that asks for the token, and the cookie that stands for it."""

import hmac
import time
from hashlib import sha256
from html import escape

from starlette.responses import HTMLResponse

COOKIE = "lmdesk_pass"
MAX_AGE_SECONDS = 30 * 24 * 3600


def pass_for(token: str, *, now: float | None = None) -> str:
    """A cookie value good for 30 days. It proves the token was known, and does not contain it."""
    expires = str(int((time.time() if now is None else now) + MAX_AGE_SECONDS))
    return f"{expires}.{_signature(expires, token)}"


def pass_is_good(value: str, token: str, *, now: float | None = None) -> bool:
    """Whether `pass_for` made this value with this token, and not too long ago."""
    expires, _, signature = value.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(expires, token).encode()):
        return False
    return int(expires) > (time.time() if now is None else now)


def _signature(expires: str, token: str) -> str:
    return hmac.new(token.encode(), f"lmdesk-pass|{expires}".encode(), sha256).hexdigest()


def sign_in_page(*, wrong: bool = False) -> HTMLResponse:
    """The form that asks for the token. Status 401: whoever sees it is not signed in."""
    error = (
        '<p id="error" role="alert">That is not the token of this LM Desk. '
        "Check for missing characters and try again.</p>"
        if wrong
        else ""
    )
    mark = ' aria-invalid="true" aria-describedby="error"' if wrong else ""
    page = _PAGE.replace("<!--error-->", error).replace("<!--mark-->", mark)
    return HTMLResponse(page, 401, {"cache-control": "no-store"})


def bounce_page(target: str) -> HTMLResponse:
    """Opens `target` from a page of our own, so that the browser sends its strict cookie along."""
    page = (
        '<!doctype html><html lang="en"><title>LM Desk</title>'
        f'<meta http-equiv="refresh" content="0;url={escape(target, quote=True)}">'
        f'<p><a href="{escape(target, quote=True)}">Open LM Desk</a></p></html>'
    )
    return HTMLResponse(page, 200, {"cache-control": "no-store"})


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in - LM Desk</title>
<style>
:root { --ground:#f6f7f9; --card:#fff; --ink:#171a21; --soft:#566072; --line:#c3c9d4; --act:#2f55d4;
  --act-ink:#fff; --bad:#b3261e }
@media (prefers-color-scheme: dark) { :root { --ground:#0f1116; --card:#181b22; --ink:#e8eaf0;
  --soft:#a3abba; --line:#474f5e; --act:#8aa4ff; --act-ink:#0f1116; --bad:#ff9d94 } }
* { box-sizing:border-box }
body { margin:0; min-height:100dvh; display:grid; place-items:center; padding:16px;
  background:var(--ground); color:var(--ink); font:16px/1.5 system-ui, sans-serif }
main { width:100%; max-width:400px; padding:32px 28px; background:var(--card); border-radius:16px;
  border:1px solid var(--line) }
h1 { margin:0 0 4px; font-size:22px }
p { margin:0 0 20px; color:var(--soft) }
label { display:block; margin-bottom:6px; font-weight:600 }
input, button { width:100%; min-height:44px; font:inherit; border-radius:10px; padding:8px 12px }
input { border:1px solid var(--line); background:var(--ground); color:var(--ink) }
input[aria-invalid] { border-color:var(--bad) }
button { margin-top:16px; border:0; background:var(--act); color:var(--act-ink); font-weight:600;
  cursor:pointer }
:focus-visible { outline:3px solid var(--act); outline-offset:2px }
#error { margin:8px 0 0; color:var(--bad) }
code { font-size:.9em }
</style>
</head>
<body>
<main>
<h1>LM Desk</h1>
<p>This LM Desk is protected. Sign in with its token: the value of <code>LMDESK_TOKEN</code>,
or the one in the link it prints when it starts.</p>
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
<!--mark-->>
<!--error-->
<button type="submit">Sign in</button>
</form>
</main>
</body>
</html>
"""
