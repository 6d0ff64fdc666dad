"""The gateway beside nginx, LiteLLM and the plainest FastAPI proxy, in one run; a table of ratios.

    python -m benchmarks.gateway [--rounds 3] [--quick] [--without litellm] [--turns]

It compiles its own model server and load generator (C: neither may be what is measured), fetches
nginx from Debian's archive and LiteLLM from PyPI into a cache folder where they are not here yet,
and leaves a peer out with its reason where it cannot be had. LM Desk is the real `lmdesk api`: routing,
leases, metrics and truth headers are on, and every token of every stream is checked.
"""

import argparse
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack

import orjson

from benchmarks import gateway_peers as peers
from benchmarks import machine, processes

DESK, NGINX, LITELLM, RELAY, DIRECT = "LM Desk", "nginx", "LiteLLM", "FastAPI + aiohttp", "direct"
FLOODS = (32, 128, 512)
# Tokens a flood has in all. With many tokens a write the upstream is far faster than any candidate;
# with a write a token, as model servers do it, its own writing is what limits the fastest of them.
BURST_TOKENS = 4_000_000
WRITE_TOKENS = 1_000_000
# LiteLLM gets a share, and the first round only: else a round would take half an hour.
LITELLM_TOKENS = 16_000
RATE = 50
Report = dict[str, float]
Key = tuple[str, str]


class Run:
    """All candidates before one upstream, and what was seen of them."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._load = peers.compiled("gateway_load")
        self.there: dict[str, processes.Running] = {}
        self.missing: dict[str, str] = {}
        self.seen: dict[Key, list[Report]] = defaultdict(list)
        self.trouble: list[str] = []

    def start(self, stack: ExitStack) -> None:
        upstream = stack.enter_context(peers.upstream())
        self.there[DIRECT] = upstream
        starts = {
            NGINX: peers.nginx,
            RELAY: peers.relay,
            DESK: peers.desk,
            LITELLM: peers.litellm,
        }
        for name, begin in starts.items():
            if name.split()[0].lower() in self._given.without:
                self.missing[name] = "left out, as asked"
                continue
            try:
                self.there[name] = stack.enter_context(begin(upstream.url))
            except (peers.Missing, RuntimeError) as error:
                if name == DESK:
                    raise
                self.missing[name] = str(error)

    def ask(
        self,
        name: str,
        *,
        streams: int,
        tokens: int,
        rate: float = 0,
        repeat: int = 1,
        slow: int = 0,
        leave: int = 0,
        burst: int = 1,
    ) -> Report:
        """One run of the load generator, with the CPU it cost the candidate."""
        running = self.there[name]
        model = "lmstudio:bench/model-0" if name == DESK else "bench/model-0"
        port = running.url.rpartition(":")[2]
        command = [str(self._load), port, model]
        command += [str(each) for each in (streams, tokens, rate, repeat, slow, leave, burst)]
        before = machine.cpu_seconds(running.pid)
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=900)
        report: Report = orjson.loads(done.stdout)
        report["cpu"] = machine.cpu_seconds(running.pid) - before
        report["rate"] = report["tokens"] / max(report["seconds"], 1e-6)
        wrong = {key: report[key] for key in ("wrong", "cut", "unfinished", "bad_status")}
        if any(wrong.values()):
            self.trouble.append(f"{name}, {streams} streams: {wrong} {report['error']}")
        return report

    def note(self, what: str, name: str, **how: float) -> None:
        self.seen[what, name].append(self.ask(name, **how))  # type: ignore[arg-type]
        print(".", end="", file=sys.stderr, flush=True)

    def round(self, number: int) -> None:
        """Every candidate in turn, for each kind of load. LiteLLM takes part in the first round."""
        quick = self._given.quick
        names = [name for name in self.there if name != LITELLM or number == 0]
        for name in names:
            self.note("warm", name, streams=8, tokens=50)
        for name in names:
            self.note("first", name, streams=1, tokens=5, repeat=50 if name == LITELLM else 500)
        for streams in FLOODS:
            for name in names:
                many = LITELLM_TOKENS if name == LITELLM else BURST_TOKENS // (4 if quick else 1)
                self.note(
                    f"burst {streams}", name, streams=streams, tokens=many // streams, burst=64
                )
                if name != LITELLM:
                    many = WRITE_TOKENS // (4 if quick else 1)
                    self.note(f"flood {streams}", name, streams=streams, tokens=many // streams)
        for name in names:
            if name != LITELLM:
                seconds = 4 if quick else 10
                self.note("paced 128", name, streams=128, tokens=RATE * seconds, rate=RATE)
                self.note("paced 512", name, streams=512, tokens=RATE * seconds, rate=RATE)
                self.note("alone", name, streams=4, tokens=RATE * 2, rate=RATE)
                self.note("slow", name, streams=8, tokens=RATE * 2, rate=RATE, slow=4)
        for name in names:
            if name != LITELLM:
                self.seen["leave", name].append({"ms": self._leave(name)})

    def _leave(self, name: str) -> float:
        """Milliseconds from a client's close to the moment the upstream noticed."""
        before = self.there[DIRECT].get("/bench/stats")["abandoned"]
        report = self.ask(name, streams=8, tokens=10_000, rate=RATE, leave=8)
        for _ in range(400):
            stats = self.there[DIRECT].get("/bench/stats")
            if stats["abandoned"] >= before + 8:
                return (stats["last_abandoned_us"] - report["left_us"]) / 1000
        self.trouble.append(f"{name}: the upstream was not told that its clients had left")
        return float("inf")

    # -- figures -----------------------------------------------------------------------------------

    def middle(self, what: str, name: str, key: str) -> float:
        """The median of the rounds."""
        return machine.median([report[key] for report in self.seen[what, name]])

    def ratio(self, what: str, name: str, to: str, key: str = "rate") -> float | None:
        """The median of the ratios inside each round; beyond LiteLLM's one round, to that."""
        ours, theirs = self.seen[what, name], self.seen[what, to]
        if not ours or not theirs:
            return None
        pairs = [(one, theirs[min(place, len(theirs) - 1)]) for place, one in enumerate(ours)]
        return machine.median([a[key] / b[key] for a, b in pairs if b[key]])

    def cpu_ratio(self, what: str, name: str) -> float | None:
        """CPU a token, × nginx, least of the rounds: what others on the machine take is noise."""
        if not self.seen[what, NGINX]:
            return None
        return self.cpu(what, name) / self.cpu(what, NGINX)

    def cpu(self, what: str, name: str) -> float:
        """Microseconds a token, least of the rounds."""
        return min(r["cpu"] / max(r["tokens"], 1) * 1e6 for r in self.seen[what, name])

    def added(self, name: str) -> float:
        """Milliseconds to the first token beyond the direct way, one stream."""
        return (self.middle("first", name, "first_p50_us") - self._direct("first_p50_us")) / 1000

    def _direct(self, key: str) -> float:
        return self.middle("first", DIRECT, key)

    def carried(self, name: str) -> float:
        """The share of 512 × 50 tokens a second that came through in time, best of the rounds."""
        offered = 512 * RATE
        return max(r["rate"] for r in self.seen["paced 512", name]) / offered


def _shown(value: float | None, form: str = ".2f") -> str:
    return "–" if value is None else format(value, form)


def show(run: Run) -> None:
    """The table."""
    names = [name for name in (DIRECT, NGINX, RELAY, DESK, LITELLM) if name in run.there]
    print(f"{'':44}" + "".join(f"{name:>19}" for name in names))

    def row(title: str, values: list[str]) -> None:
        print(f"{title:44}" + "".join(f"{value:>19}" for value in values))

    for kind, words in (("burst", "64 tokens a write"), ("flood", "a write a token")):
        for streams in FLOODS:
            what = f"{kind} {streams}"
            values = [
                f"{run.middle(what, n, 'rate'):,.0f}" if run.seen[what, n] else "–" for n in names
            ]
            row(f"{streams} streams, {words}, tokens/s", values)
            row("  × nginx", [_shown(run.ratio(what, n, NGINX)) for n in names])
            if kind == "burst":
                row("  × LiteLLM", [_shown(run.ratio(what, n, LITELLM), ".0f") for n in names])
    row("first token, 1 stream: added ms, p50", [f"{run.added(n):.2f}" for n in names])
    paced = [n for n in names if run.seen["paced 128", n]]
    gap = ["–"] * (len(names) - len(paced))
    row(
        "128 × 50/s: CPU µs a token",
        [f"{run.cpu('paced 128', n):.1f}" for n in paced] + gap,
    )
    row("  × nginx", [_shown(run.cpu_ratio("paced 128", n)) for n in paced] + gap)
    row(
        "  delay ms, p50 / p99",
        [
            f"{run.middle('paced 128', n, 'delay_p50_us') / 1000:.1f} / "
            f"{run.middle('paced 128', n, 'delay_p99_us') / 1000:.1f}"
            for n in paced
        ]
        + gap,
    )
    row("512 × 50/s: share carried", [f"{run.carried(n):.2f}" for n in paced] + gap)
    row(
        "4 readers beside 4 who do not read: ms, p99",
        [
            f"{run.middle('slow', n, 'delay_p99_us') / 1000:.1f} "
            f"({run.middle('alone', n, 'delay_p99_us') / 1000:.1f} alone)"
            for n in paced
        ]
        + gap,
    )
    row(
        "client gone to upstream told, ms",
        [f"{run.middle('leave', n, 'ms'):.1f}" for n in paced] + gap,
    )


def judge(run: Run) -> bool:
    """The bars, each with what was reached; whether all were.

    nginx's are for the flood as model servers make it, a write a token; LiteLLM's for the one with
    many tokens a write, since in the other the upstream itself is hardly a hundred times as fast.
    """
    bars: list[tuple[str, float | None, float, bool]] = []
    for streams in FLOODS:
        ratio = run.ratio(f"flood {streams}", DESK, NGINX)
        bars.append((f"{streams} streams × nginx", ratio, 0.8, True))
        ratio = run.ratio(f"burst {streams}", DESK, LITELLM)
        bars.append((f"{streams} streams × LiteLLM", ratio, 100, True))
    bars.append(("added to the first token, ms", run.added(DESK), 1.0, False))
    bars.append(("CPU a token × nginx", run.cpu_ratio("paced 128", DESK), 2.5, False))
    bars.append(("share of 512 × 50/s carried", run.carried(DESK), 0.7, True))
    bars.append(("client gone, ms", run.middle("leave", DESK, "ms"), 100, False))
    bars.append(("tokens lost, doubled or reordered", float(len(run.trouble)), 0.5, False))
    print("\nbars:")
    good = True
    for name, reached, bar, more in bars:
        if reached is None:
            print(f"  {'not measured':12} {name}")
            continue
        met = reached >= bar if more else reached < bar
        good &= met
        sign = "≥" if more else "<"
        print(f"  {'met' if met else 'MISSED':12} {name}: {reached:.2f} ({sign} {bar:g})")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="shorter floods and streams")
    parser.add_argument(
        "--without", action="append", default=[], choices=("nginx", "litellm", "fastapi")
    )
    parser.add_argument(
        "--turns", action="store_true", help="then the way of a chat turn, as concurrent_turns"
    )
    given = parser.parse_args()
    print(machine.header(f"gateway, {given.rounds} rounds"), flush=True)
    with ExitStack() as stack:
        try:
            run = Run(given)
            run.start(stack)
        except peers.Missing as error:
            raise SystemExit(f"This benchmark cannot run here: {error}.") from error
        for name, reason in run.missing.items():
            print(f"without {name}: {reason}")
        if LITELLM in run.there:
            print(f"LiteLLM {peers.litellm_version()}, in the first round only")
        for number in range(given.rounds):
            run.round(number)
            print(machine.header(f"round {number + 1} done"), flush=True)
    print()
    show(run)
    good = judge(run)
    for line in run.trouble:
        print(f"TROUBLE {line}")
    if given.turns:
        _turns()
    print("\n" + machine.header("end"))
    raise SystemExit(0 if good else 1)


def _turns() -> None:
    print("\nthe way of a chat turn: events, database, watchers\n", flush=True)
    processes.show("benchmarks.concurrent_turns", "--rounds", "1")


if __name__ == "__main__":
    main()
