"""What the swap dialog and the memory map get."""

from app.switching import memory_view, plan_view
from core.memory_map import MemoryBar, MemoryMap, Slice
from core.plan import ChatName, Need, Resident, plan

GB = 2**30


def test_the_dialog_gets_sizes_in_words_and_chats_by_title() -> None:
    found = plan(
        model_id="lm:new",
        name="New",
        loaded=False,
        pool="vram",
        need=Need(bytes=6 * GB),
        free=2 * GB,
        total=12 * GB,
        residents=(
            Resident(
                model_id="lm:old",
                name="Old",
                bytes=4 * GB,
                source="load",
                ours=True,
                chats=(ChatName(id="c", title="Lisbon"),),
            ),
            Resident(model_id="lm:other", name="Other"),
        ),
        last_load_seconds=None,
    )

    view = plan_view(found)

    assert view["unload"] == ("lm:old",)
    assert [each["size"] for each in view["residents"]] == [
        "4.0 GB, measured at its load",
        "size not known",
    ]
    assert [each["chats"] for each in view["residents"]] == [["Lisbon"], []]
    assert (view["fits"], view["fits_after"]) == (False, True)


def gpu(index: int, *slices: Slice, other: int = GB) -> MemoryBar:
    taken = sum(each.bytes for each in slices) + other
    return MemoryBar(
        kind="gpu",
        index=index,
        name="RTX",
        total=12 * GB,
        other=other,
        free=12 * GB - taken,
        slices=slices,
    )


def test_the_parts_of_a_bar_add_up() -> None:
    model = Slice(model_id="lm:a", name="A", bytes=5 * GB, source="estimate", chats=1)

    view = memory_view(MemoryMap(bars=(gpu(0, model),)))

    (bar,) = view["bars"]
    assert (bar["label"], bar["words"]) == ("VRAM", "6\u2009/\u200912 GB")
    assert [part["words"] for part in bar["parts"]] == [
        "about 5.0 GB, an estimate",
        "1.0 GB",
        "6.0 GB",
    ]
    assert abs(sum(part["share"] for part in bar["parts"]) - 1) < 1e-9
    assert view["empty"] is False


def test_nothing_is_shown_of_what_is_not_there_and_several_gpus_have_numbers() -> None:
    view = memory_view(MemoryMap(bars=(gpu(0, other=0), gpu(1, other=12 * GB))))

    assert [bar["label"] for bar in view["bars"]] == ["VRAM 0", "VRAM 1"]
    assert [[part["kind"] for part in bar["parts"]] for bar in view["bars"]] == [
        ["free"],
        ["other"],
    ]
    assert view["empty"] is True
