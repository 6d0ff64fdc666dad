"""How the page says things: numbers, states and endings in the words a person reads."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from core.chats import ChatPage, Message, ModelTruth, StopProof
from core.hardware import Gpu
from core.jobs import JobInfo
from core.memory_map import Program
from core.models import ModelInfo, ProviderHealth
from core.plan import size as memory_size
from core.taken import MemorySource

DOT = " · "
AUTO_LABEL = f"✦ Auto{DOT}picks by task"
STATE_GLYPHS = {"loaded": "●", "loading": "◐", "unloading": "◐", "not-loaded": "○"}
STATE_WORDS = {
    "loaded": "Loaded",
    "loading": "Loading",
    "unloading": "Unloading",
    "not-loaded": "Not loaded",
}
PROVIDER_NAMES = {
    "lmstudio": "LM Studio",
    "embedded": "Built-in engine",
    "ollama": "Ollama",
    "huggingface": "Hugging Face",
    "openai": "OpenAI-compatible server",
    "llamacpp": "llama-server",
}
PROVIDER_STATES = {
    "ready": "connected",
    "no_models": "no models yet",
    "starting": "starting",
    "needs_token": "needs a token",
    "wrong_server": "another server answers",
    "unreachable": "not running",
    "error": "has trouble",
}
ENDINGS = {
    "length": "Stopped at the token limit",
    "model_changed": "Ended because the model was changed",
    "model_unloaded": "Ended because the model was unloaded",
    "model_crashed": "Ended because the model crashed",
    "server_stopped": "Interrupted because LM Desk stopped",
    "context_full": "Stopped because the context is full",
    "model_changed_during_execution": "Ended because the model was changed",
    "repeated_call": "Stopped at the same tool call for the third time",
    "limit_rounds": "Stopped at the limit of steps",
    "limit_tokens": "Stopped at the token limit",
    "limit_minutes": "Stopped at the limit of minutes",
}
BUSY = {"reading": "still reading the prompt", "generating": "still writing"}
# So little more than last time is not worth a word.
LATE_SHARE, LATE_SECONDS = 1.2, 2.0


def size(count: int) -> str:
    """Bytes as people buy them: `2.5 GB`."""
    if count >= 10**9:
        gigabytes = count / 10**9
        return f"{gigabytes:.1f} GB" if gigabytes < 100 else f"{gigabytes:.0f} GB"
    if count >= 10**6:
        return f"{count / 10**6:.0f} MB"
    return f"{max(1, round(count / 1000))} kB"


def memory(count: int) -> str:
    """Bytes of memory, without the unit, as in `13.1 / 32 GB`; GB here is 2**30."""
    return f"{count / 2**30:.1f}".removesuffix(".0")


def memory_taken(count: int | None, source: MemorySource) -> str:
    """What a model takes of the memory, and how that is known."""
    if count is None:
        return "size not known"
    match source:
        case "process":
            return f"{memory_size(count)}, its process"
        case "load":
            return f"{memory_size(count)}, measured at its load"
        case "estimate":
            return f"about {memory_size(count)}, an estimate"


def other_programs(count: int, programs: Sequence[Program]) -> str:
    """What the others take: `3.1 GB (chrome 1.2, Xorg 0.4, …)`."""
    if not programs:
        return memory_size(count)
    large = count >= 2**30
    named = [
        f"{each.name} {each.bytes / 2**30:.1f}" if large else f"{each.name} {each.bytes // 2**20}"
        for each in programs
        if each.bytes >= (2**30 if large else 2**20) / 20
    ]
    rest = count - sum(each.bytes for each in programs)
    more = ["…"] if rest > count / 20 or len(named) < len(programs) else []
    return f"{memory_size(count)} ({', '.join([*named, *more])})" if named else memory_size(count)


def context(tokens: int) -> str:
    """A context length: `32k`."""
    if tokens < 1000:
        return str(tokens)
    thousand = 1024 if tokens % 1024 == 0 else 1000
    return f"{tokens / thousand:.1f}".removesuffix(".0") + "k"


def duration(seconds: float) -> str:
    """`0.84 s`, `12 s`, `2 min 5 s`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def provider_name(kind: str, name: str) -> str:
    """What people call a provider; its configured name when that says more."""
    known = PROVIDER_NAMES.get(kind)
    return known if known and name == kind else name


def model_context(model: ModelInfo) -> int | None:
    """What it really has when loaded, else what it could have."""
    for instance in model.instances:
        if instance.context_length is not None:
            return instance.context_length
    return model.context_length


def option_label(model: ModelInfo, *, with_provider: bool) -> str:
    """One line of the model dropdown: state, name, quantization, size, context."""
    tokens = model_context(model)
    facts = [
        model.name,
        model.quantization,
        size(model.size_bytes) if model.size_bytes else None,
        context(tokens) if tokens else None,
        PROVIDER_NAMES.get(model.provider, model.provider) if with_provider else None,
    ]
    if model.stale_since is not None:
        return f"✕ {model.name}{DOT}{_home(model)} cannot be reached"
    glyph = STATE_GLYPHS[model.state] if model.loadable else "◇"
    return f"{glyph} {DOT.join(fact for fact in facts if fact)}"


def _home(model: ModelInfo) -> str:
    return PROVIDER_NAMES.get(model.provider, model.provider)


def model_facts(model: ModelInfo) -> list[tuple[str, str]]:
    """The rows of the model card."""
    loaded = [i.context_length for i in model.instances if i.context_length]
    rows = [
        ("Provider", PROVIDER_NAMES.get(model.provider, model.provider)),
        ("Parameters", model.parameters),
        ("Quantization", model.quantization),
        ("Size", size(model.size_bytes) if model.size_bytes else None),
        ("Context", _context_fact(loaded[0] if loaded else None, model.context_length)),
        ("Instances", str(len(model.instances)) if len(model.instances) > 1 else None),
        ("Can", _abilities(model)),
    ]
    return [(label, value) for label, value in rows if value]


def _context_fact(loaded: int | None, most: int | None) -> str | None:
    if loaded and most and loaded != most:
        return f"{context(loaded)} of {context(most)} tokens"
    tokens = loaded or most
    return f"{context(tokens)} tokens" if tokens else None


def _abilities(model: ModelInfo) -> str:
    can = model.capabilities
    named = ((can.vision, "vision"), (can.tools, "tools"), (can.reasoning, "reasoning"))
    return ", ".join(word for known, word in named if known)


def model_state(model: ModelInfo) -> str:
    """The state beside the dropdown."""
    if model.stale_since is not None:
        ago = duration(max(1.0, time.time() - model.stale_since))
        return f"Cannot be reached; seen {ago} ago"
    return STATE_WORDS[model.state] if model.loadable else "Always available"


def day_group(at: float, *, now: float, utc_offset_minutes: int) -> str:
    """The heading a chat stands under, in the reader's own days."""
    shift = timedelta(minutes=utc_offset_minutes)
    day = (datetime.fromtimestamp(at, UTC) + shift).date()
    today = (datetime.fromtimestamp(now, UTC) + shift).date()
    age = (today - day).days
    if age <= 0:
        return "Today"
    if age == 1:
        return "Yesterday"
    if age <= 7:
        return "Previous 7 days"
    if age <= 30:
        return "Previous 30 days"
    return f"{day:%B %Y}"


def searched(page: ChatPage) -> str:
    """How a search was made; empty when nothing was searched for."""
    if page.mode_used == "semantic" and page.searched_with:
        model = short_model(page.searched_with.partition(":")[2])
        return f"By words and by meaning, with {model}"
    return "By words" if page.mode_used == "text" else ""


def ending(message: Message) -> str | None:
    """The quiet label under an answer that did not end by itself."""
    if message.reason in ENDINGS and message.status in {"done", "interrupted", "stopped"}:
        return ENDINGS[message.reason]
    return {"stopped": "Stopped", "interrupted": "Interrupted"}.get(message.status)


def answered_by(truth: ModelTruth) -> str:
    """The name of the model under an answer, without its provider and publisher."""
    return short_model(truth.answered or truth.asked.partition(":")[2] or truth.asked)


def short_model(model_id: str) -> str:
    """`Qwen3-4B` for `lmstudio-community/Qwen3-4B`."""
    return model_id.rpartition("/")[2] or model_id


def written_with(truth: ModelTruth) -> list[str]:
    """What wrote an answer: model, quantization and context, as far as they are known."""
    tokens = truth.got_context
    facts = (
        answered_by(truth),
        truth.quantization,
        f"{context(tokens)} context" if tokens else None,
    )
    return [fact for fact in facts if fact]


def difference(truth: ModelTruth) -> str | None:
    """What to say when another model, or less context, answered than was asked for."""
    said = []
    if truth.other_answered and truth.answered:
        asked = short_model(truth.asked.partition(":")[2] or truth.asked)
        said.append(f"asked for {asked}, {short_model(truth.answered)} answered")
    if truth.asked_context and truth.got_context and truth.got_context < truth.asked_context:
        said.append(
            f"asked for {context(truth.asked_context)} context, got {context(truth.got_context)}"
        )
    return sentence_case("; ".join(said)) if said else None


def sentence_case(words: str) -> str:
    """With a capital, and the rest as it is."""
    return words[:1].upper() + words[1:]


def stop_proof(proof: StopProof) -> str | None:
    """What the model did after the stop; nothing where nobody can say."""
    seconds = f"{max(0.1, proof.seconds or 0.0):.1f} s"
    if proof.state == "idle":
        return f"idle after {seconds}"
    if proof.state == "busy":
        return f"{BUSY.get(proof.doing or '', 'still busy')} {seconds} later"
    return None


def stats_line(message: Message) -> list[str]:
    """Speed, first token and tokens of an answer, as far as they are known."""
    stats = message.stats
    if stats is None:
        return []
    facts = []
    if stats.tokens_per_second is not None:
        facts.append(f"{speed(stats.tokens_per_second)} tok/s")
    if stats.time_to_first_token_seconds is not None:
        facts.append(f"first token {duration(stats.time_to_first_token_seconds)}")
    if stats.output_tokens is not None:
        facts.append(f"{stats.output_tokens} token{'' if stats.output_tokens == 1 else 's'}")
    if stats.load_time_seconds:
        facts.append(f"loaded in {duration(stats.load_time_seconds)}")
    return facts


def speed(tokens_per_second: float) -> str:
    """Tokens a second, without the unit."""
    return f"{tokens_per_second:.1f}" if tokens_per_second < 10 else f"{tokens_per_second:.0f}"


def phase(
    name: str | None, *, progress: float | None, exact: bool | None, stage: str | None
) -> str:
    """What a waiting answer or a load is doing. Its seconds are counted on the page."""
    if stage and (name in {"queued", "unloading"} or (name == "loading" and progress is None)):
        return sentence_case(stage)
    share = "" if progress is None else f" {'' if exact is not False else '~'}{progress:.0%}"
    words = {
        "queued": "Waiting its turn",
        "loading": f"Loading the model{share}",
        "reading": f"Reading the prompt{share}",
        "thinking": "Thinking",
        "writing": "Writing",
        "tools": "Using tools",
        "unloading": "Unloading",
        "downloading": f"Downloading{share}",
    }.get(name or "queued", "Working")
    return (
        f"{words}{DOT}{stage}" if stage and name in {"loading", "downloading", "tools"} else words
    )


def waits_for(job: JobInfo) -> str | None:
    """The tool whose call a person is asked about; None where nobody is."""
    before, found, tool = (job.stage or "").partition("waiting for you: ")
    return tool if found and not before else None


def time_left(job: JobInfo, *, now: float) -> str | None:
    """How much longer a load takes, going by the last one."""
    if job.usual_seconds is None or job.phase != "loading":
        return None
    left = round(job.usual_seconds - (now - job.phase_at))
    return (
        f"about {left} s left"
        if 0 < left < 60
        else f"about {duration(left)} left"
        if left > 0
        else None
    )


def is_late(job: JobInfo, *, now: float) -> bool:
    """Whether a load takes much longer than the last one did."""
    if job.usual_seconds is None or job.phase != "loading":
        return False
    return now - job.phase_at > job.usual_seconds * LATE_SHARE + LATE_SECONDS


def providers_state(providers: tuple[ProviderHealth, ...]) -> tuple[str, str, str]:
    """For the status bar: `ok`, `wait` or `off`, a few words, and all there is to say."""
    if not providers:
        return "off", "No provider is configured", ""
    ready = [each for each in providers if each.state == "ready"]
    shown = ready[0] if ready else min(providers, key=_most_hopeful)
    words = f"{provider_name(shown.kind, shown.provider)} {PROVIDER_STATES[shown.state]}"
    detail = "\n".join(
        f"{provider_name(each.kind, each.provider)}: {each.message}"
        + (f" {each.hint}" if each.hint else "")
        for each in providers
    )
    if ready:
        return "ok", words, detail
    return ("wait" if shown.state in {"starting", "no_models"} else "off"), words, detail


def _most_hopeful(health: ProviderHealth) -> int:
    order = ["no_models", "starting", "needs_token", "error", "wrong_server", "unreachable"]
    return order.index(health.state)


def gpu_detail(gpu: Gpu) -> str:
    """Temperature and power under a GPU's curve."""
    facts = []
    if gpu.temperature_celsius is not None:
        facts.append(f"{gpu.temperature_celsius:.0f} °C")
    if gpu.power_watts is not None:
        limit = f" / {gpu.power_limit_watts:.0f}" if gpu.power_limit_watts else ""
        facts.append(f"{gpu.power_watts:.0f}{limit} W")
    return DOT.join(facts)
