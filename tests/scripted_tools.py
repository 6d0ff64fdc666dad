"""A scripted MCP server on standard input and output, in the older era, with nothing but the library.

Its plan is JSON in its argument: `tools` (name → description), `then` (the tools after the first
`switch` call, announced), `garbage` (lines written to standard output first), `stubborn` (it outlives
the end of its input and SIGTERM), `silent` (it answers nothing), `big` (bytes of the result of `big`),
`endless` (its answer to `big` never ends), `lists` (so often it lists its tools, and then hangs), `parent` (it starts a child, which does nothing).
Tools do what their name says: `echo`, `env`, `switch`, `big`, `die`, `wrong`, `pid`, `wait`.
"""

import json
import os
import signal
import subprocess
import sys
import time

PLAN = json.loads(sys.argv[1])
STATE = {"tools": PLAN.get("tools", {"echo": "Says it again."})}


def send(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def listed() -> list[dict[str, object]]:
    return [
        {
            "name": name,
            "description": text,
            "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
        }
        for name, text in STATE["tools"].items()
    ]


def called(name: str, arguments: dict[str, object]) -> object:
    if name == "env":
        return json.dumps(dict(os.environ))
    if name == "big":
        if PLAN.get("endless"):
            while True:
                sys.stdout.write("x" * 1_000_000)
        return "x" * int(PLAN["big"])
    if name == "die":
        sys.stderr.write("I am dying of an error\n")
        sys.stderr.flush()
        os._exit(7)
    if name == "switch":
        STATE["tools"] = PLAN["then"]
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    if name == "wait":
        sys.stderr.write("I am waiting\n")
        sys.stderr.flush()
        time.sleep(600)
    if name == "wrong":
        return None
    if name == "pid":
        return str(os.getpid())
    return str(arguments.get("text", "done"))


def answer(message: dict[str, object]) -> None:
    method, params = message.get("method"), message.get("params") or {}
    reply: dict[str, object] = {"jsonrpc": "2.0", "id": message["id"]}
    if method == "initialize":
        reply["result"] = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "scripted", "version": "1"},
        }
    elif method == "tools/list":
        STATE["lists"] = STATE.get("lists", 0) + 1
        if STATE["lists"] > PLAN.get("lists", 1_000_000):
            sys.stderr.write("I am stuck in my list\n")
            sys.stderr.flush()
            time.sleep(600)
        reply["result"] = {"tools": listed()}
    elif method == "tools/call":
        text = called(params["name"], params.get("arguments") or {})
        content = "nonsense" if text is None else [{"type": "text", "text": text}]
        reply["result"] = {"content": content}
    else:
        reply["error"] = {"code": -32601, "message": "Method not found"}
    send(reply)


def main() -> None:
    for line in PLAN.get("garbage", []):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    if PLAN.get("parent"):
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # grandchild"])
    if PLAN.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message and not PLAN.get("silent"):
            answer(message)
    while PLAN.get("stubborn"):
        time.sleep(1)


main()
