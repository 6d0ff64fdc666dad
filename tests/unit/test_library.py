"""ModelLibrary: names, lists, loads that are proved, leases that hold."""

import asyncio

import pytest

from core.errors import (
    ModelAmbiguous,
    ModelInUse,
    ModelNotFound,
    NotLoadable,
    ProviderNotFound,
    ProviderUnreachable,
)
from core.jobs import Job, JobService
from core.library import ModelLibrary
from tests.fakes import OUT_OF_ORDER, UNREACHABLE, FakeProvider

pytestmark = pytest.mark.anyio


def library_of(*providers: FakeProvider) -> ModelLibrary:
    return ModelLibrary(providers, JobService())


async def ended(job: Job) -> Job:
    await job.ended.wait()
    return job


async def test_a_model_is_found_by_full_and_by_bare_name_in_any_case() -> None:
    library = library_of(FakeProvider("qwen/qwen3-4b"))

    for name in ("fake:qwen/qwen3-4b", "qwen/qwen3-4b", "Qwen/QWEN3-4B", " qwen/qwen3-4b "):
        assert (await library.resolve(name)).full_name == "fake:qwen/qwen3-4b"


async def test_a_bare_name_that_two_providers_serve_is_refused_with_both() -> None:
    library = library_of(FakeProvider("phi", name="one"), FakeProvider("phi", name="two"))

    with pytest.raises(ModelAmbiguous) as caught:
        await library.resolve("phi")

    assert caught.value.candidates == ("one:phi", "two:phi")


async def test_an_unknown_name_is_answered_with_the_closest_ones() -> None:
    library = library_of(FakeProvider("qwen/qwen3-4b", "llama-3.1-8b"))

    with pytest.raises(ModelNotFound) as caught:
        await library.resolve("qwen3-4")

    assert caught.value.candidates[0] == "fake:qwen/qwen3-4b"
    assert "fake:qwen/qwen3-4b" in caught.value.hint


async def test_a_new_model_is_found_without_waiting_for_the_cache() -> None:
    provider = FakeProvider("old")
    library = library_of(provider)
    await library.models()
    provider.models["new"] = provider.models["old"].model_copy(update={"id": "new"})
    library._shelf("fake").forget()

    assert (await library.resolve("new")).id == "new"


async def test_a_provider_that_hangs_delays_no_other() -> None:
    hanging, living = FakeProvider("slow", name="hanging"), FakeProvider("here", name="living")
    hanging.list_delay = asyncio.Event()
    library = library_of(hanging, living)

    async with asyncio.timeout(2):
        models = await library.models()
    assert [model.id for model in models] == ["here"]

    hanging.list_delay.set()
    await library.refresh(max_age=0)
    assert {model.id for model in await library.models()} == {"slow", "here"}
    await library.aclose()


async def test_the_models_of_a_provider_that_died_are_stale_and_none_is_loaded() -> None:
    provider = FakeProvider("m")
    provider.put_in_memory("m")
    library = library_of(provider)
    assert (await library.models())[0].loaded
    before = library.revision
    provider.list_error = UNREACHABLE
    await library.refresh(max_age=0)
    (stale,) = await library.models()

    assert (stale.stale_since is not None, stale.loaded) == (True, False)
    assert library.errors() == {"fake": UNREACHABLE}
    assert library.revision > before
    assert await library.default_model() is None
    with pytest.raises(ProviderUnreachable):
        await library.resolve("m")

    provider.list_error = None
    await library.refresh(max_age=0)
    assert (await library.resolve("m")).stale_since is None


async def test_a_bare_name_means_the_provider_that_answers() -> None:
    dead, living = FakeProvider("phi", name="dead"), FakeProvider("phi", name="living")
    library = library_of(dead, living)
    await library.models()
    dead.list_error = UNREACHABLE
    await library.refresh(max_age=0)

    assert (await library.resolve("phi")).full_name == "living:phi"


async def test_providers_come_and_go_while_the_desk_runs() -> None:
    library = library_of(FakeProvider("m"))
    library.add(FakeProvider("n", name="second"))
    await library.refresh(max_age=0)
    assert (await library.resolve("n")).full_name == "second:n"

    await library.remove("second")

    with pytest.raises(ModelNotFound):
        await library.resolve("n")
    with pytest.raises(ProviderNotFound):
        library.gate("second")


async def test_no_more_than_a_hundred_names_of_a_provider_are_kept_at_hand() -> None:
    library = library_of(FakeProvider(*(f"m{n}" for n in range(130))))
    for n in range(130):
        await library.resolve(f"m{n}")
    await library.resolve("m129")
    stats = library.name_stats()

    assert (stats.kept, stats.evictions, stats.hits) == (100, 30, 1)


async def test_a_load_reports_rising_progress_and_ends_loaded() -> None:
    provider = FakeProvider("m")
    library = library_of(provider)
    job = await ended(library.start_load(await library.resolve("m")))
    events = job.log.read(0)
    progress = [e.data["progress"] for e in events if e.type == "model_load.progress"]

    assert job.state == "done"
    assert progress == sorted(progress)
    assert events[-2].data["context_length"] == 4096
    assert (await library.resolve("m")).loaded


async def test_two_loads_of_one_model_are_one() -> None:
    provider = FakeProvider("m")
    provider.load_gate.clear()
    library = library_of(provider)
    model = await library.resolve("m")
    first, second = library.start_load(model), library.start_load(model)
    provider.load_gate.set()
    await ended(first)
    third = await ended(library.start_load(await library.resolve("m")))

    assert first is second
    assert (provider.loads, third.state) == (1, "done")
    assert len((await library.resolve("m")).instances) == 1


async def test_a_load_the_list_does_not_show_has_failed() -> None:
    provider = FakeProvider("m")
    provider.lies = True
    library = library_of(provider)
    job = await ended(library.start_load(await library.resolve("m")))

    assert job.state == "failed"
    assert job.error is not None
    assert job.error.code == "load_unproven"


async def test_a_failed_load_keeps_the_reason_and_the_state() -> None:
    provider = FakeProvider("m")
    provider.load_error = OUT_OF_ORDER
    library = library_of(provider)
    job = await ended(library.start_load(await library.resolve("m")))

    assert job.error is not None
    assert job.error.message == "The file is damaged."
    assert (await library.resolve("m")).state == "not-loaded"


async def test_a_cancelled_load_closes_the_provider_and_leaves_nothing() -> None:
    provider = FakeProvider("m")
    provider.load_gate.clear()
    library = library_of(provider)
    job = library.start_load(await library.resolve("m"))
    while job.info.progress != 0.8:
        await asyncio.sleep(0)
    assert (await library.resolve("m")).state == "loading"
    job.request_end("stopped", "user")
    await ended(job)

    assert job.state == "stopped"
    assert provider.cancelled_loads == 1
    assert (await library.resolve("m")).state == "not-loaded"


async def test_a_leased_model_is_not_unloaded_unless_forced() -> None:
    provider = FakeProvider("m")
    jobs = JobService()
    library = ModelLibrary([provider], jobs)
    model = await library.resolve("m")
    holding = asyncio.Event()

    async def hold(job: Job) -> None:
        async with library.lease(model, job):
            holding.set()
            await asyncio.Event().wait()

    turn = jobs.start(Job("turn", chat_id="chat1"), hold)
    await holding.wait()

    with pytest.raises(ModelInUse) as caught:
        library.start_unload(model)
    assert caught.value.chats == ("chat1",)

    unload = await ended(library.start_unload(model, force=True))
    assert (turn.state, turn.info.reason) == ("interrupted", "model_unloaded")
    assert unload.state == "done"
    assert not (await library.resolve("m")).loaded


async def test_a_lease_loads_the_model_and_shows_it_to_its_own_watchers() -> None:
    provider = FakeProvider("m")
    jobs = JobService()
    library = ModelLibrary([provider], jobs)
    model = await library.resolve("m")
    seen: list[float | None] = []

    async def hold(job: Job) -> None:
        async with library.lease(model, job) as lease:
            seen.append(lease.load_seconds)

    turn = await ended(jobs.start(Job("turn"), hold))
    types = [event.type for event in turn.log.read(0)]

    assert turn.state == "done"
    assert seen == [0.5]
    assert types[0] == "model_load.start"
    assert "model_load.end" in types


async def test_stopping_the_only_one_who_waits_for_a_load_cancels_it() -> None:
    provider = FakeProvider("m")
    provider.load_gate.clear()
    jobs = JobService()
    library = ModelLibrary([provider], jobs)
    model = await library.resolve("m")

    async def hold(job: Job) -> None:
        async with library.lease(model, job):
            raise AssertionError("never loaded")

    turn = jobs.start(Job("turn"), hold)
    while not provider.loads:
        await asyncio.sleep(0)
    await jobs.stop(turn.id)
    (load,) = jobs.list(kind="load")
    await ended(load)

    assert (turn.state, load.state) == ("stopped", "stopped")
    assert library.leased_by(model) == []


async def test_a_model_without_loading_says_so() -> None:
    provider = FakeProvider("m")
    provider.models["m"] = provider.models["m"].model_copy(update={"loadable": False})
    library = library_of(provider)
    job = await ended(library.start_load(await library.resolve("m")))

    assert job.error is not None
    assert job.error.code == NotLoadable.code


async def test_an_unknown_provider_is_named_with_those_there_are() -> None:
    with pytest.raises(ProviderNotFound, match="'olama'") as caught:
        library_of(FakeProvider()).provider("olama")
    assert "fake" in caught.value.hint
