"""Models that Hugging Face has served for long, for when its own list cannot be read."""

from core.models import Capabilities, ModelInfo

# Repository, tokens of context, vision, tools, reasoning: as their cards say.
_KNOWN: tuple[tuple[str, int, bool, bool, bool], ...] = (
    ("openai/gpt-oss-120b", 131_072, False, True, True),
    ("openai/gpt-oss-20b", 131_072, False, True, True),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507", 262_144, False, True, False),
    ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 262_144, False, True, False),
    ("Qwen/Qwen3-32B", 40_960, False, True, True),
    ("Qwen/Qwen2.5-VL-7B-Instruct", 128_000, True, False, False),
    ("deepseek-ai/DeepSeek-R1", 163_840, False, True, True),
    ("deepseek-ai/DeepSeek-V3-0324", 163_840, False, True, False),
    ("meta-llama/Llama-3.3-70B-Instruct", 131_072, False, True, False),
    ("meta-llama/Llama-3.1-8B-Instruct", 131_072, False, True, False),
    ("google/gemma-3-27b-it", 131_072, True, False, False),
    ("moonshotai/Kimi-K2-Instruct", 131_072, False, True, False),
)
NOTE = "From LM Desk's own list: whether it is served now is not known."


def curated(provider: str) -> list[ModelInfo]:
    """The models, marked as not coming from the hub's list."""
    return [
        ModelInfo(
            id=name,
            provider=provider,
            name=name.rpartition("/")[2],
            publisher=name.partition("/")[0],
            context_length=context,
            capabilities=Capabilities(vision=vision, tools=tools, reasoning=reasoning),
            loadable=False,
            metadata={"list": NOTE},
        )
        for name, context, vision, tools, reasoning in _KNOWN
    ]
