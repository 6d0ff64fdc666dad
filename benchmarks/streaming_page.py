"""The real page in Chromium: whether paint keeps up with the model, in a chat that is already long.

    python -m benchmarks.streaming_page [--rate 200] [--tokens 2000] [--earlier 100] [--rounds 2]
                                       [--slower 4]

Every fifth token is a mark such as `§45§`. The upstream notes when it wrote each token; a probe in the
page notes the first frame that shows each mark. Both read the machine's wall clock.
"""

import argparse
import asyncio
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page

from benchmarks import machine, processes
from benchmarks.browser import browser_cpu_seconds, chromium, page_at, wait_for_composer
from benchmarks.upstream import MARK_EVERY, MODEL
from core.chats import Message
from infrastructure.storage import open_store, sqlite_url

LAG_TARGET_MS = 150.0
RATE_TOLERANCE = 0.05

PROBE = """() => {
  const probe = window.probe = { seen: [], long: 0, frames: 0 };
  const mark = /§(\\d+)§/g;
  let highest = -1, asked = false;
  const painted = new MessageChannel();
  // Runs after the frame that the look belongs to.
  painted.port1.onmessage = ({ data }) => {
    probe.seen.push([data, performance.timeOrigin + performance.now()]);
  };
  const look = () => {
    asked = false;
    probe.frames += 1;
    const rows = document.querySelectorAll('#hist .message-row, #live .message-row');
    const found = [...(rows[rows.length - 1]?.textContent ?? '').matchAll(mark)];
    const last = found.length ? Number(found[found.length - 1][1]) : -1;
    if (last > highest) { highest = last; painted.port2.postMessage(last); }
  };
  const changed = () => { if (!asked) { asked = true; requestAnimationFrame(look); } };
  const wanted = { childList: true, subtree: true, characterData: true };
  for (const id of ['hist', 'live']) {
    new MutationObserver(changed).observe(document.getElementById(id), wanted);
  }
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) probe.long = Math.max(probe.long, entry.duration);
  }).observe({ type: 'longtask' });
}"""
SEEN = "last => window.probe.seen.length > 0 && window.probe.seen.at(-1)[0] >= last"

EARLIER = """### Step {n}

The quick brown fox **jumps** over the lazy dog, and then it *rests* for a while beside `river_{n}`.
A second sentence makes the paragraph long enough to wrap on every screen there is.

- first thing to know about it, with a [link](https://example.org/{n})
- second thing, which is longer than the first one and says a little more
- third thing

```python
def step_{n}(values: list[int]) -> int:
    total = 0
    for value in values:
        total += value * {n}
    return total
```

| name | value | note |
|---|---|---|
| alpha | {n} | the first |
| beta | 2 | the second |

And a closing remark that brings this message to the length of a usual answer, which is some nine
hundred characters when a person asks about a program and a model explains what it does.
"""


class Painted(NamedTuple):
    """What one answer looked like."""

    arrived: float
    """Tokens a second, as emitted."""
    painted: float
    lags: list[float]
    """Milliseconds from emission to paint, of every mark."""
    longest_task: float
    """Milliseconds in which the page could not react."""
    frames: int
    desk_cpu: float
    """Percent of one core while the answer ran."""
    browser_cpu: float


async def long_chat(data_dir: Path, count: int) -> str:
    """A chat with this many messages, question and answer in turn; its id."""
    async with open_store(sqlite_url(data_dir)) as store:
        chat = await store.create_chat(title="A long one", model_id=f"lmstudio:{MODEL}")
        messages: list[Message] = []
        for n in range(count):
            messages.append(
                Message(
                    id=uuid.uuid4().hex,
                    chat_id=chat.id,
                    parent_id=messages[-1].id if messages else None,
                    role="assistant" if n % 2 else "user",
                    content=EARLIER.format(n=n),
                    created_at=time.time(),
                )
            )
        if messages:
            await store.add_messages(messages, head_id=messages[-1].id)
    return chat.id


def answer_once(browser: Browser, given: argparse.Namespace) -> Painted:
    """Open the chat, ask, and watch the answer."""
    with (
        tempfile.TemporaryDirectory() as folder,
        processes.upstream(tokens=given.tokens, rate=given.rate, text="markdown") as upstream,
    ):
        # Playwright's own loop has this thread.
        with ThreadPoolExecutor(1) as thread:
            making = thread.submit(asyncio.run, long_chat(Path(folder), given.earlier))
            chat = making.result()
        with (
            processes.desk(Path(folder), lmstudio=upstream.url) as desk,
            page_at(browser, f"{desk.url}/?chat={chat}") as page,
        ):
            return _watch(page, desk, upstream, given)


def _watch(
    page: Page, desk: processes.Running, upstream: processes.Running, given: argparse.Namespace
) -> Painted:
    wait_for_composer(page)
    rows = "count => document.querySelectorAll('#hist .message-row').length >= count"
    page.wait_for_function(rows, arg=given.earlier, timeout=60_000)
    page.wait_for_timeout(2000)
    page.evaluate(PROBE)
    page.get_by_role("textbox", name="Message").fill("Write it all.")
    if given.slower != 1:
        # Chromium's own way to play a weaker machine; the desk and the model keep their speed.
        control = page.context.new_cdp_session(page)
        control.send("Emulation.setCPUThrottlingRate", {"rate": given.slower})
    desk_before, browser_before = machine.cpu_seconds(desk.pid), browser_cpu_seconds()
    started = time.monotonic()
    page.keyboard.press("Enter")
    last = (given.tokens - 1) // MARK_EVERY * MARK_EVERY
    limit = (given.tokens / given.rate * 6 + 60) * 1000
    page.wait_for_function(SEEN, arg=last, timeout=limit, polling=500)
    seconds = time.monotonic() - started
    desk_cpu = (machine.cpu_seconds(desk.pid) - desk_before) / seconds * 100
    browser_cpu = (browser_cpu_seconds() - browser_before) / seconds * 100
    probe = page.evaluate("window.probe")
    emitted: list[float] = upstream.get("/benchmark/emitted")
    return _judge(probe["seen"], emitted, probe, desk_cpu, browser_cpu)


def _judge(
    seen: list[tuple[int, float]],
    emitted: list[float],
    probe: dict[str, float],
    desk_cpu: float,
    browser_cpu: float,
) -> Painted:
    lags, done = [], -1
    for mark, at in seen:
        # This frame was the first to show all marks since the last one.
        for number in range(done + 1, mark + 1):
            if number % MARK_EVERY == 0:
                lags.append(at - emitted[number] * 1000)
        done = mark
    first, last = seen[0], seen[-1]
    return Painted(
        arrived=(last[0] - first[0]) / (emitted[last[0]] - emitted[first[0]]),
        painted=(last[0] - first[0]) / (last[1] - first[1]) * 1000,
        lags=lags,
        longest_task=probe["long"],
        frames=int(probe["frames"]),
        desk_cpu=desk_cpu,
        browser_cpu=browser_cpu,
    )


def show(answers: list[Painted]) -> None:
    print(
        f"{'round':>6} {'arrived/s':>10} {'painted/s':>10} {'ratio':>7} {'lag p50':>8} {'p95':>6}"
        f" {'max':>6} {'long task':>10} {'looks':>6} {'desk CPU':>9} {'browser CPU':>12}"
    )
    for number, a in enumerate(answers, 1):
        ratio, p50 = a.painted / a.arrived, machine.median(a.lags)
        keeps_up = "keeps up" if abs(ratio - 1) <= RATE_TOLERANCE else "FALLS BEHIND"
        print(
            f"{number:6} {a.arrived:10.1f} {a.painted:10.1f} {ratio:7.3f} {p50:8.0f}"
            f" {machine.percentile(a.lags, 0.95):6.0f} {max(a.lags):6.0f} {a.longest_task:10.0f}"
            f" {a.frames:6} {a.desk_cpu:8.0f}% {a.browser_cpu:11.0f}%"
            f"  {keeps_up}, lag {'ok' if p50 < LAG_TARGET_MS else 'TOO LONG'}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--earlier", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--slower", type=float, default=1.0, help="slow the browser's CPU down")
    given = parser.parse_args()
    slower = f", browser {given.slower:g} times slower" if given.slower != 1 else ""
    what = f"{given.tokens} markdown tokens at {given.rate:g}/s after {given.earlier} messages"
    print(machine.header(what + slower))
    with chromium() as browser:
        show([answer_once(browser, given) for _ in range(given.rounds)])
    print(machine.header("end"))


if __name__ == "__main__":
    main()
