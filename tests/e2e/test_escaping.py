"""Foreign text is text: names of models, titles, questions and answers never become markup."""

from playwright.sync_api import expect

from tests.e2e.conftest import Open
from tests.e2e.running import Desk
from tests.e2e.screen import Screen
from tests.frames import chunk, ending
from tests.servers import ScriptedLMStudio, ScriptedModel

IMAGE = "<img src=x onerror=alert(1)>"
HOSTILE = [
    IMAGE,
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "[link](javascript:alert(1))",
    "{{7*7}} ${7*7}",
]
MARKUP = "img, svg[onload], iframe, script:not([src]), [onerror], [onload], a[href^='javascript']"


def planted(screen: Screen) -> list[str]:
    """What of the hostile texts became markup in the page's own parts."""
    found = screen.page.evaluate(
        "(markup) => [...document.querySelectorAll('#shell, .toasts')]"
        ".flatMap((part) => [...part.querySelectorAll(markup)]).map((each) => each.outerHTML)",
        MARKUP,
    )
    return list(found)


def test_a_hostile_name_of_a_model_is_shown_as_it_is(
    studio_desk: Desk, studio: ScriptedLMStudio, open_tab: Open
) -> None:
    studio.models = {name: ScriptedModel(name, instances={name: 4096}) for name in (IMAGE, "a")}
    studio.tokens, studio.rate = 2, None
    studio_desk.get("/models/", refresh=True)
    screen = open_tab(studio_desk)

    screen.choose("IMG SRC")
    screen.send("Hi")

    expect(screen.answers.locator(".facts")).to_contain_text(IMAGE)
    expect(screen.model_card).to_contain_text("<IMG SRC=X")
    assert planted(screen) == []


def test_hostile_titles_are_shown_as_they_are(studio_desk: Desk, open_tab: Open) -> None:
    for text in HOSTILE:
        studio_desk.new_chat(title=text)
    screen = open_tab(studio_desk)

    expect(screen.chat_rows).to_have_count(len(HOSTILE))
    for text in HOSTILE:
        expect(screen.chat_button(text)).to_be_visible()
    screen.chat_button(IMAGE).click()
    expect(screen.page).to_have_title(f"{IMAGE} · LM Desk")
    screen.chat_rows.filter(has_text=IMAGE).hover()
    screen.chats.get_by_role("button", name=f"Delete {IMAGE}").click()
    expect(screen.page.get_by_text(f"Deleted “{IMAGE}”.")).to_be_visible()
    screen.search.fill(IMAGE)
    expect(screen.chats).to_contain_text(f"Nothing matches “{IMAGE}”.")
    assert planted(screen) == []


def test_hostile_messages_are_harmless_in_both_directions(
    studio_screen: Screen, studio: ScriptedLMStudio
) -> None:
    screen = studio_screen
    for count, text in enumerate(HOSTILE, start=1):
        half = len(text) // 2
        studio.frames = [
            chunk({"reasoning_content": text}),
            chunk({"content": f"Before {text[:half]}"}),
            chunk({"content": f"{text[half:]} after"}),
            *ending("m", 3),
        ]
        screen.send(f"Asked {text}")
        expect(screen.answers).to_have_count(count)
        answer = screen.answers.last
        expect(answer).to_contain_text("after")
        answer.get_by_role("button", name="Show or hide the thoughts").click()
        assert planted(screen) == []
        if "<" in text:
            expect(screen.questions.last).to_have_text(f"Asked {text}")
            expect(answer).to_contain_text(f"Before {text} after")

    screen.reload()

    expect(screen.answers).to_have_count(len(HOSTILE))
    expect(screen.conversation).not_to_contain_text("49")
    assert planted(screen) == []
