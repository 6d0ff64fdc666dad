"""A value is changed in the text of a YAML file, and everything else stays as it was, byte for byte."""

import difflib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from api.config_edit import REMOVED, CannotEdit, edited

FILE = """\
# Mine.   Two spaces   kept.

port:   1001      # aligned
"log_level" : 'info'
providers:  # who

  # the box below the desk
  box:
    kind: ollama   # native
    base_url: "http://box.lan:11434"
    # more to come

  work:
    kind: openai
    base_urls:
    - http://a.lan   # first
    # the slow one
    - http://b.lan

# which model for what
models: {default: auto, preferences: {coding: [a, 'b c']}}   # flow
fallback:
  remote: []
hf_endpoint: https://hub.lan

# port: 9999
# end of file, no newline"""


def lines_changed(before: str, after: str) -> list[str]:
    found = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line.rstrip("\n") for line in found if line[0] in "+-"]


@pytest.mark.parametrize(
    ("keys", "value", "changed"),
    [
        (("port",), 2, ["- port:   1001      # aligned", "+ port:   2      # aligned"]),
        (("log_level",), "debug", ["- \"log_level\" : 'info'", '+ "log_level" : debug']),
        (
            ("providers", "box", "kind"),
            "lmstudio",
            ["-     kind: ollama   # native", "+     kind: lmstudio   # native"],
        ),
        (
            ("providers", "box", "base_url"),
            "http://10.0.0.1:1",
            [
                '-     base_url: "http://box.lan:11434"',
                "+     base_url: http://10.0.0.1:1",
            ],
        ),
        (("providers", "box", "timeout"), 2.5, ["+     timeout: 2.5"]),
        (("providers", "new"), {"kind": "ollama"}, ["+   new:", "+     kind: ollama"]),
        (("providers", "box"), REMOVED, None),
        (
            ("providers", "work", "base_urls"),
            ["http://c.lan", "http://b.lan"],
            ["-     - http://a.lan   # first", "+     - http://c.lan"],
        ),
        (
            ("models", "default"),
            "qwen/qwen3-4b",
            [
                "- models: {default: auto, preferences: {coding: [a, 'b c']}}   # flow",
                "+ models: {default: qwen/qwen3-4b, preferences: {coding: [a, 'b c']}}   # flow",
            ],
        ),
        (
            ("models", "preferences", "general"),
            ["*x*", "z"],
            [
                "- models: {default: auto, preferences: {coding: [a, 'b c']}}   # flow",
                "+ models: {default: auto, preferences: {coding: [a, 'b c'], general: "
                '["*x*", z]}}   # flow',
            ],
        ),
        (
            ("models", "default"),
            REMOVED,
            [
                "- models: {default: auto, preferences: {coding: [a, 'b c']}}   # flow",
                "+ models: {preferences: {coding: [a, 'b c']}}   # flow",
            ],
        ),
        (("fallback", "remote"), ["hf"], ["-   remote: []", "+   remote: [hf]"]),
        (("port",), REMOVED, ["- port:   1001      # aligned"]),
        (
            ("host",),
            "127.0.0.1",
            ["- # end of file, no newline", "+ # end of file, no newline", "+ host: 127.0.0.1"],
        ),
        (("nothing",), REMOVED, []),
    ],
)
def test_only_the_changed_line_changes(
    keys: tuple[str, ...], value: Any, changed: list[str] | None
) -> None:
    after = edited(FILE, [(keys, value)])
    if changed is None:
        changed = [
            "-   box:",
            "-     kind: ollama   # native",
            '-     base_url: "http://box.lan:11434"',
        ]
    found = lines_changed(FILE, after)
    assert [line for line in found if line[2:].strip()] == changed


def test_windows_line_ends_and_a_byte_order_mark_stay() -> None:
    before = "\ufeff" + FILE.replace("\n", "\r\n")
    after = edited(before, [(("providers", "box", "timeout"), 3), (("host",), "localhost")])
    assert after.startswith("\ufeff# Mine.")
    assert after.count("\n") == after.count("\r\n") == before.count("\n") + 3
    assert "    timeout: 3\r\n" in after


def test_a_file_that_indents_by_four_goes_on_to() -> None:
    before = "providers:\n    a:\n        kind: ollama\n"
    after = edited(before, [(("providers", "b"), {"kind": "lmstudio"})])
    assert after == before + "    b:\n        kind: lmstudio\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "models:\n  default: m\n"),
        ("# nothing\n", "# nothing\n\nmodels:\n  default: m\n"),
        ("models:\n", "models:\n  default: m\n"),
        ("models: # why\nport: 1\n", "models: # why\n  default: m\nport: 1\n"),
        ("models: ~\nport: 1\n", "models:\n  default: m\nport: 1\n"),
        ("models: {}\n", "models: {default: m}\n"),
        ("{models: {}, port: 1}\n", "{models: {default: m}, port: 1}\n"),
        ("{port: 1}\n", "{port: 1, models: {default: m}}\n"),
        ("{models: , port: 1}\n", "{models: {default: m}, port: 1}\n"),
        ("models:\n  default:\n", "models:\n  default: m\n"),
        ("models:\n  default: null # x\n", "models:\n  default: m # x\n"),
        ("models:\n  default: |\n    text\n# c\n", "models:\n  default: m\n# c\n"),
    ],
)
def test_there_is_always_a_place_for_it(before: str, after: str) -> None:
    assert edited(before, [(("models", "default"), "m")]) == after


def test_removing_the_last_one_leaves_what_counts_as_nothing() -> None:
    assert edited("providers:\n  a: {}\n# c\n", [(("providers", "a"), REMOVED)]) == (
        "providers:\n# c\n"
    )
    assert edited("port: 1\n", [(("port",), REMOVED)]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "base: &b {default: x}\nmodels: *b\n",
        "models: &m\n  default: &d x\nother: *d\n",
        "models:\n  <<: {default: y}\n  default: x\n---\nmore: 1\n",
    ],
)
def test_what_cannot_be_changed_safely_is_left_to_a_person(text: str) -> None:
    with pytest.raises(CannotEdit, match=r"'models\.default' has to be changed by hand"):
        edited(text, [(("models", "default"), "m")])


ODD = ["", "yes", "NULL", "1", "1.5", "a: b", "a #b", "*a", "&a", " a", "a ", "ü", "a\nb", "'", '"']
ODD += ["\\", "\u0085", "\u2028", "😀", "- a", "{a", "a,b", "@a", "0x1", "1e3", "~", "2026-01-01"]
ODD += ["=", "<<", "!x", "%x", "a:", ":a", "\x7f"]


@pytest.mark.parametrize("value", [*ODD, True, False, 0, 12, 1.5, [], ["a", "1"]])
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    for before in ("a: 1\n", "b: {a: 1}\n"):
        keys = ("a",) if before.startswith("a") else ("b", "a")
        after = edited(before, [(keys, value)])
        read = YAML(typ="safe", pure=True).load(after)
        assert (read["a"] if len(keys) == 1 else read["b"]["a"]) == value


NAMES = st.sampled_from(["box", "work", "x-1", "Y_2"])
TEXTS = st.text(
    alphabet=st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\ufeff"),
    max_size=12,
)
CHANGES = st.one_of(
    st.tuples(
        st.tuples(st.just("providers"), NAMES, st.sampled_from(["kind", "token", "timeout"])),
        st.one_of(TEXTS, st.integers(0, 600), st.booleans(), st.just(REMOVED)),
    ),
    st.tuples(st.tuples(st.just("providers"), NAMES), st.just(REMOVED)),
    st.tuples(
        st.tuples(
            st.just("models"), st.just("preferences"), st.sampled_from(["coding", "general"])
        ),
        st.one_of(st.lists(TEXTS, max_size=3), st.just(REMOVED)),
    ),
    st.tuples(
        st.tuples(st.just("providers"), st.just("work"), st.just("base_urls")),
        st.lists(st.sampled_from(["http://a.lan", "http://b.lan", "http://c.lan"]), max_size=3),
    ),
    st.tuples(st.tuples(st.sampled_from(["port", "host"])), st.one_of(TEXTS, st.just(REMOVED))),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=5))
def test_whatever_is_changed_the_comments_on_lines_of_their_own_outside_it_stay(
    changes: list[tuple[tuple[str, ...], Any]],
) -> None:
    after = edited(FILE, changes)  # checks the values itself
    for line in FILE.splitlines():
        if line.startswith("#"):
            assert line in after.splitlines()
