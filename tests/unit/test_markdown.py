"""A model's Markdown as HTML: what it becomes, and that nothing harmful ever does."""

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.markdown import MAX_CHARS, _Kept, rendered

TAGS = {
    *("p", "br", "hr", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "a"),
    *("strong", "em", "s", "sub", "sup", "kbd", "div"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
NEW_TAB = 'target="_blank" rel="noopener noreferrer"'
# Nothing here may take longer, on a machine that is busy with other things too.
PATIENCE = 30.0


class Parts(HTMLParser):
    """The tags and attributes of a text, as a browser would find them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.words = ""
        self.other: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment

    def assert_harmless(self) -> None:
        assert self.tags <= TAGS
        assert self.other == []
        allowed = {"href", "target", "rel", "start", "style", "class", "tabindex"}
        assert set(self.attributes) <= allowed
        for href in self.attributes.get("href", ()):
            assert href.lower().startswith(("http://", "https://", "mailto:"))
        aligned = {f"text-align:{side}" for side in ("left", "center", "right")}
        assert self.attributes.get("style", set()) <= aligned
        assert self.attributes.get("class", set()) <= {"plain", "heading", "formula", "table"}
        assert self.attributes.get("target", {"_blank"}) == {"_blank"}
        assert self.attributes.get("rel", {"noopener noreferrer"}) == {"noopener noreferrer"}


def test_what_models_write_is_rendered() -> None:
    html = rendered(
        "Some **bold** and *soft* `code`, ~~gone~~.\nA line.\n\n1. one\n2. two\n\n> said"
    )
    assert "Some <strong>bold</strong> and <em>soft</em> <code>code</code>, <s>gone</s>." in html
    assert "<br>\nA line." in html
    assert "<ol>\n<li>one</li>\n<li>two</li>\n</ol>" in html
    assert "<blockquote>\n<p>said</p>" in html
    assert rendered("") == rendered(" \n") == ""


def test_a_table_is_one_and_scrolls_by_itself() -> None:
    html = rendered("| a | b |\n|--:|---|\n| 1<br>2 | **x** |")
    assert html.startswith('<div class="table" tabindex="0"><table>')
    assert '<td style="text-align:right">1<br>\n2</td>\n<td><strong>x</strong></td>' in html


def test_boxes_in_lists_are_shown_as_boxes() -> None:
    html = rendered("- [ ] open\n- [x] done\n- [z] else\n\n[x] not in a list")
    assert "<li>☐ open</li>\n<li>☑ done</li>\n<li>[z] else</li>" in html
    assert "<p>[x] not" in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "a <svg onload=alert(1)> b",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        '```js "><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```',
        "`</code><script>alert(1)</script>`",
        "| <script>alert(1)</script> | b |\n|---|---|\n| <b>x</b> | y |",
        "<!-- hidden --> <?php x ?> <![CDATA[ x ]]>",
        "<style>* { display: none }</style>",
        '<a href="https://example.org" onclick="alert(1)">x</a>',
        "<br onclick=alert(1)> <sub onclick=alert(1)>x</sub> <sub><script></sub>",
        "$$</code><script>alert(1)</script>$$\n\n\\[\n<script>alert(1)</script>\n\\]",
        "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62; &#x3c;img src=x&#x3e;",
        '[x](https://example.org/"onmouseover="alert(1) "title\\" onclick=alert(1)")',
        '!["><script>alert(1)</script>](https://example.org/a.png)',
        "# <script>alert(1)</script>",
    ],
)
def test_html_stays_text(text: str) -> None:
    for headings in (True, False):
        parts = Parts(rendered(text, headings=headings))
        parts.assert_harmless()
        assert "script" not in parts.tags


def test_text_that_looks_like_html_is_shown_as_it_was_written() -> None:
    text = "<script>alert(1)</script> <img src=x onerror=alert(1)> a < b & c"
    assert Parts(rendered(text)).words.strip() == text
    assert Parts(rendered("&lt;b&gt; &amp;")).words.strip() == "<b> &"
    assert Parts(rendered("`&lt;b&gt;`")).words.strip() == "&lt;b&gt;"


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java&#115;cript:alert(1)",
        "&#x6A;avascript&colon;alert(1)",
        "\\javascript:alert(1)",
        "<javascript:alert(1)>",
        "<\tjavascript:alert(1)>",
        "vbscript:x",
        "data:text/html,<script>alert(1)</script>",
        "data:image/svg+xml,<svg onload=alert(1)>",
        "data:image/png;base64,AAAA",
        "file:///etc/passwd",
        "blob:https://example.org/1",
        "ftp://example.org",
        "//example.org/x",
        "/settings",
        "notes.md",
        "#here",
        "?chat=1",
        "",
    ],
)
def test_a_link_leads_nowhere_but_to_web_pages_and_mail(href: str) -> None:
    for text in (f"[x]({href})", f"![x]({href})", f"[x][1]\n\n[1]: {href}", f"<{href}>"):
        parts = Parts(rendered(text))
        parts.assert_harmless()
        assert "a" not in parts.tags


def test_where_a_link_does_not_lead_can_be_read() -> None:
    assert rendered("See [notes](notes.md).") == "<p>See notes (notes.md).</p>\n"
    long = Parts(rendered(f"![dot](data:image/png;base64,{'A' * 5000})")).words
    assert long.startswith("dot (data:image/png;base64,AAA")
    assert len(long) < 300


def test_links_open_a_new_tab_that_learns_nothing_of_this_one() -> None:
    html = rendered('[x](https://example.org/?a=1&b=2 "Click!") <https://example.com> <a@b.org>')
    assert f'<a href="https://example.org/?a=1&amp;b=2" {NEW_TAB}>x</a>' in html
    assert f'<a href="https://example.com" {NEW_TAB}>https://example.com</a>' in html
    assert f'<a href="mailto:a@b.org" {NEW_TAB}>a@b.org</a>' in html
    assert "Click" not in html


@pytest.mark.parametrize(
    ("text", "href"),
    [
        ("See https://example.org/a_b_c.", "https://example.org/a_b_c"),
        ("(see https://example.org)", "https://example.org"),
        ("https://example.org/Heat_(physics) is", "https://example.org/Heat_(physics)"),
        ("**https://example.org/?q=1&r=2**", "https://example.org/?q=1&amp;r=2"),
        ('https://example.org/"><script>', "https://example.org/"),
    ],
)
def test_a_bare_address_is_a_link(text: str, href: str) -> None:
    html = rendered(text)
    Parts(html).assert_harmless()
    assert f'<a href="{href}" {NEW_TAB}>{href}</a>' in html


def test_an_address_in_code_or_in_a_link_is_no_link_of_its_own() -> None:
    assert "<a" not in rendered("`https://example.org` and xhttps://example.org")
    assert rendered("[to https://example.org](https://example.com)").count("<a") == 1


def test_an_image_is_a_link_with_its_words_and_nothing_is_fetched() -> None:
    html = rendered("![a *plan*](https://example.org/i.png?secret=1)")
    assert html == f'<p><a href="https://example.org/i.png?secret=1" {NEW_TAB}>a plan</a></p>\n'
    unnamed = rendered("![](https://example.org/i.png)")
    assert f"{NEW_TAB}>https://example.org/i.png</a>" in unnamed
    linked = rendered("[![badge](https://example.org/i.png)](https://example.com)")
    assert linked == f'<p><a href="https://example.com" {NEW_TAB}>badge</a></p>\n'
    by_name = rendered("![x][1]\n\n[1]: https://example.org/i.png")
    assert by_name == f'<p><a href="https://example.org/i.png" {NEW_TAB}>x</a></p>\n'


def test_headings_go_on_from_the_pages_own_and_skip_no_level() -> None:
    text = "### A\n# B\n#### C\n###### D\n## E\nF\n==="
    tags = [line[1:3] for line in rendered(text, headings=True).splitlines()]
    assert tags == ["h4", "h4", "h5", "h6", "h5", "h4"]
    assert rendered("# A\nB") == '<p class="heading">A</p>\n<p>B</p>\n'


def test_code_that_is_still_being_written_is_code() -> None:
    html = rendered("So:\n```python\nprint('<b>')\n")
    assert html.endswith('<pre tabindex="0"><code>print(&#x27;&lt;b&gt;&#x27;)\n</code></pre>\n')
    assert "python" not in html


def test_a_formula_stands_as_it_was_written() -> None:
    assert '<code class="formula">a_1 * b_2 * c</code>' in rendered(r"So \(a_1 * b_2 * c\) is.")
    assert '<code class="formula">x_1</code>' in rendered("So $$x_1$$ is, for $5 and $6.")
    html = rendered("It is\n\\[\na\n- b < c\n\n+ _d_\n\\]\nso.")
    assert '<pre tabindex="0" class="formula"><code>a\n- b &lt; c\n\n+ _d_</code></pre>' in html
    assert "<p>so.</p>" in html
    assert "formula" not in rendered("\\[ without an end\n\nand $$ too, `$$a$$`")


def test_the_few_tags_that_markdown_lacks_work_where_they_are_closed() -> None:
    assert "H<sub>2</sub>O<br>\n" in rendered("H<SUB>2</SUB>O<br/>x")
    assert Parts(rendered("a <sub>b")).words.strip() == "a <sub>b"


def test_a_text_too_long_to_read_is_shown_as_it_was_written() -> None:
    text = "**a** <b>\n" * 100_000
    began = time.monotonic()
    html = rendered(text)
    assert time.monotonic() - began < PATIENCE
    assert html.startswith('<p class="plain">**a** &lt;b&gt;\n')
    assert Parts(html).words == text


@pytest.mark.parametrize(
    "piece",
    [
        "Some *words* and `code` [l](https://example.org) here. ",
        *("[", "![", "[a](", "> ", ">", "* ", "- a\n", "*a **a ", "a_ ~~a ", "`", "<", "&#", "\\["),
        *(
            "$$ ",
            "\\[\n",
            "a\n",
            "|",
            "|a\n",
            "# a\n",
            "[a]: b\n",
            "https://",
            "<https://",
            "```\n",
        ),
        "<sub>",
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    began = time.monotonic()
    html = rendered(piece * (MAX_CHARS // len(piece)), headings=True)
    assert time.monotonic() - began < PATIENCE
    assert 'class="plain"' not in html
    Parts(html).assert_harmless()


@pytest.mark.parametrize("columns", [100, 1000, MAX_CHARS // 8])
def test_a_table_whose_rows_would_be_filled_up_with_very_many_cells_is_text(columns: int) -> None:
    head = "|a" * columns + "|\n" + "|-" * columns + "|\n"
    began = time.monotonic()
    html = rendered(head + "|a\n" * ((MAX_CHARS - len(head)) // 3))
    assert time.monotonic() - began < PATIENCE
    assert html.count("<td>") <= 20_000


@given(st.text("ab1 \n\t\\`*_~[]()<>!#|-:\"'=&;$/.xX", max_size=80))
@settings(max_examples=200, deadline=None)
def test_no_mix_of_signs_brings_anything_else(text: str) -> None:
    Parts(rendered(text, headings=True)).assert_harmless()


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "javascript:",
                    "https://a.b",
                    "data:",
                    "<script>",
                    "</p>",
                    "onx=",
                    "<a ",
                    "![",
                    "[",
                ),
                *("](", ")", "]: ", "\n", "\n\n", "`", "```", "<", ">", '"', "'", "&lt;", "&#60;"),
                *("| a |", "\n|-|\n", "<sub>", "</sub>", "$$", "\\[", "\\]", "**", "- [x] ", "# "),
                *(" ", "\\", "%00", "\x00", "\u202e", "é", "😀", "[1]", "mailto:", "//", "a@b.c"),
            ]
        ),
        max_size=24,
    )
)
@settings(max_examples=200, deadline=None)
def test_no_mix_of_markup_brings_anything_else(pieces: list[str]) -> None:
    Parts(rendered("".join(pieces))).assert_harmless()


def test_what_was_rendered_is_kept_as_long_as_there_is_room() -> None:
    kept = _Kept(40)
    kept.add(("a" * 10, False), "b" * 10)
    kept.add(("c" * 10, False), "d" * 5)
    assert kept.get(("a" * 10, False)) == "b" * 10
    kept.add(("e" * 10, True), "f" * 5)
    assert kept.get(("c" * 10, False)) is None
    assert kept.get(("a" * 10, False)) == "b" * 10
    assert kept.get(("e" * 10, True)) == "f" * 5
    assert kept.get(("e" * 10, False)) is None
