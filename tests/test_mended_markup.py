"""What is mended in the pages' HTML, and that all else stays as it was."""

import mended_markup
import pytest

FORMULA = r'<span class="math notranslate nohighlight">\(x &lt; 1\)</span>'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"if {FORMULA}, then", f'if <span class="kept">{FORMULA},</span> then'),
        (f"so ({FORMULA}). Then", f'so <span class="kept">({FORMULA}).</span> Then'),
        (f"if {FORMULA} then", f"if {FORMULA} then"),
        ('<section id="exercise-content">', "<section>"),
        ('<section id="exercises">', '<section id="exercises">'),
        (
            '<span class="sig-paren">(</span>\n<dl>\n<dd><em>x</em>,</dd>\n</dl>\n',
            '<span class="sig-paren">(</span>\n<span class="sig-lines">\n'
            "<span><em>x</em>,</span>\n</span>\n",
        ),
        ("<dl><dt>a</dt><dd>b</dd></dl>", "<dl><dt>a</dt><dd>b</dd></dl>"),
    ],
)
def test_what_is_mended(before: str, after: str) -> None:
    assert mended_markup.mended(before) == after


def test_a_number_from_a_notebook_is_typeset() -> None:
    given = '<span class="pasted-text">{}</span>'
    for text, expected in (
        ("-543.4", "−543.4"),
        ("-180 to -45", "−180 to −45"),
        ("2e-08", "2 · 10<sup>−8</sup>"),
        ("2026-11-28", "2026-11-28"),
        ("wake-sleep", "wake-sleep"),
    ):
        assert mended_markup.mended(given.format(text)) == given.format(expected)
