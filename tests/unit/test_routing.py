"""Which model a request goes to: the task, the score, what never gets it, and who stands in."""

from collections.abc import Callable

import pytest

from core.errors import ModelNotFound, NoModelFits, ProviderUnreachable
from core.jobs import JobService
from core.library import ModelLibrary
from core.models import Capabilities, Instance, ModelInfo
from core.preferences import ModelPreferences
from core.providers import ProviderConfig
from core.router import Router
from core.routing import Need, Route
from core.speeds import Speed
from core.tasks import guess_task
from tests.fakes import UNREACHABLE, FakeProvider

pytestmark = pytest.mark.anyio

GB = 10**9


class KnownSpeeds:
    """Speeds a test sets."""

    def __init__(self, **speeds: float) -> None:
        self._speeds = speeds

    def speed_of(self, full_name: str, context_length: int | None = None) -> Speed | None:
        rate = self._speeds.get(full_name.partition(":")[2].replace("-", "_"))
        return Speed(tokens_per_second=rate, samples=3) if rate else None


def provider(*models: dict[str, object], name: str = "home") -> FakeProvider:
    made = FakeProvider(name=name)
    for facts in models:
        model = ModelInfo.model_validate({"provider": name, "name": facts["id"], **facts})
        made.models[model.id] = model
    return made


def router(
    *providers: FakeProvider, speeds: KnownSpeeds | None = None, **preferences: object
) -> Router:
    library = ModelLibrary((), JobService())
    for each in providers:
        config = ProviderConfig(
            name=each.name, kind="openai", base_url="", remote=each.name == "cloud"
        )
        library.add(each, config)
    wanted = ModelPreferences.model_validate(preferences)
    return Router(library, speeds, None, lambda: wanted)


def loaded(model_id: str, context: int = 8192, **facts: object) -> dict[str, object]:
    instance = Instance(id=model_id, context_length=context)
    return {"id": model_id, "instances": (instance,), "context_length": 32768, **facts}


def names(route: Route) -> list[str]:
    return [candidate.model.id for candidate in route.candidates]


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Write a Python function that merges intervals, with tests.", "coding"),
        ("```\nfor x in y: pass\n```\nWhy does this fail?", "coding"),
        ("Schreibe eine Funktion in Rust, die Primzahlen zählt.", "coding"),
        ("Write a short story about a lost key.", "creative"),
        ("Ten names for a small bakery, brainstorm freely.", "creative"),
        ("Calculate the average of 3, 7 and 12 step by step.", "analysis"),
        ("Summarise this text and evaluate its weak points.", "analysis"),
        ("What is known about naps and memory? Cite sources.", "research"),
        ("Hello, how are you?", "general"),
        ("", "general"),
    ],
)
def test_the_words_of_a_request_tell_its_task(text: str, task: str) -> None:
    assert guess_task(text).task == task


def test_the_agent_tells_the_task_where_the_words_do_not() -> None:
    guess = guess_task("Have a look at this, please.", agent_id="coding")

    assert (guess.task, guess.reasons) == ("coding", ("the agent coding",))


def test_the_words_may_say_more_than_the_agent() -> None:
    text = "Write a short story, a fairy tale, in the style of Andersen."

    assert guess_task(text, agent_id="coding").task == "creative"


async def test_code_goes_to_the_model_made_for_it_and_the_reasons_say_so() -> None:
    route = await router(provider(loaded("qwen3-8b"), loaded("qwen2.5-coder-7b"))).route(
        "auto", Need(text="Fix this Python function: ```def f(): pas```")
    )

    assert (route.task, names(route)[0]) == ("coding", "qwen2.5-coder-7b")
    assert any("made for code (+30)" in reason for reason in route.candidates[0].reasons)


async def test_what_is_in_memory_beats_what_would_have_to_be_loaded() -> None:
    route = await router(provider({"id": "llama-3.1-8b"}, loaded("qwen3-8b"))).route(
        "auto", Need(text="Hello")
    )

    assert names(route)[0] == "qwen3-8b"


async def test_preferences_come_before_everything_else() -> None:
    home = provider(loaded("qwen2.5-coder-7b"), {"id": "starcoder2-3b"})
    route = await router(home, by_task={"coding": ("home:starcoder*",)}).route(
        "auto", Need(task="coding")
    )

    assert names(route)[0] == "starcoder2-3b"
    assert "number 1 of your preferences (+100)" in route.candidates[0].reasons


async def test_a_model_that_was_slow_here_stands_behind_a_quick_one() -> None:
    speeds = KnownSpeeds(a_8b=2.0, b_8b=60.0)
    route = await router(provider(loaded("a-8b"), loaded("b-8b")), speeds=speeds).route(
        "auto", Need()
    )

    assert names(route) == ["b-8b", "a-8b"]


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (Need(vision=True), "cannot see pictures"),
        (Need(tools=True), "is not known to use tools"),
        (Need(reasoning=True), "is not known to think first"),
        (Need(tokens=30_000), "holds 8,192 tokens, 30,512 are needed"),
    ],
)
async def test_a_request_never_goes_to_a_model_that_lacks_what_it_needs(
    need: Need, reason: str
) -> None:
    able = loaded(
        "able", context=65_536, capabilities=Capabilities(vision=True, tools=True, reasoning=True)
    )
    both = router(provider(loaded("phi-2-3b"), able))

    route = await both.route("auto", need)

    assert names(route) == ["able"]
    assert (route.passed_over[0].model_id, route.passed_over[0].reason) == ("home:phi-2-3b", reason)
    with pytest.raises(NoModelFits, match="No model here") as caught:
        await router(provider(loaded("phi-2-3b"))).route("auto", need)
    assert reason in caught.value.hint


async def test_without_any_model_the_error_says_how_to_get_one() -> None:
    with pytest.raises(ModelNotFound, match="no model to answer with"):
        await router(provider()).route("auto", Need())


async def test_embedding_models_are_never_asked_to_chat() -> None:
    route = await router(provider(loaded("nomic", kind="embedding"), loaded("phi"))).route(
        "auto", Need()
    )

    assert names(route) == ["phi"]


async def test_somebody_elses_computer_is_used_only_where_allowed_and_last() -> None:
    home, cloud = provider(loaded("phi-2-3b")), provider(loaded("huge-405b"), name="cloud")

    closed = await router(home, cloud).route("auto", Need())
    opened = await router(home, cloud, remote_fallback=("cloud",)).route("auto", Need())

    assert names(closed) == ["phi-2-3b"]
    assert "somebody else's computer" in closed.passed_over[0].reason
    assert names(opened) == ["phi-2-3b", "huge-405b"]


async def test_a_model_asked_for_by_name_has_nobody_behind_it_unless_named() -> None:
    home = provider(loaded("asked"), loaded("other"), loaded("named-7b"))

    alone = await router(home).route("asked", Need())
    followed = await router(home).route("asked", Need(alternatives=("named*",)))

    assert names(alone) == ["asked"]
    assert names(followed) == ["asked", "named-7b"]


async def test_where_the_asked_provider_is_gone_the_named_ones_answer() -> None:
    dead, home = provider(loaded("asked"), name="dead"), provider(loaded("named-7b"))
    ways = router(dead, home)
    library = ways._library
    await library.models()
    dead.list_error = UNREACHABLE
    await library.refresh(max_age=0)

    with pytest.raises(ProviderUnreachable):
        await ways.route("dead:asked", Need())
    route = await ways.route("dead:asked", Need(alternatives=("named*",)))

    assert names(route) == ["named-7b"]
    assert route.passed_over[0].model_id == "dead:asked"


@pytest.mark.parametrize(
    ("order", "build"),
    [("forward", lambda ids: ids), ("backward", lambda ids: ids[::-1])],
    ids=["forward", "backward"],
)
async def test_equal_models_are_chosen_the_same_way_each_time(
    order: str, build: Callable[[list[str]], list[str]]
) -> None:
    ids = build(["a-7b", "b-7b", "c-7b"])
    route = await router(provider(*(loaded(each) for each in ids))).route("auto", Need())

    assert names(route) == ["a-7b", "b-7b", "c-7b"]
