"""The README says what the records say."""

import re
from typing import Any

import pytest
from PIL import Image

from aevb import readme, reference


def test_the_table_is_that_of_the_stored_records() -> None:
    rows = reference.compare("figure-2", readme.shown())
    block = readme.results_table(rows)
    assert block.count("\n") > 8
    assert readme.insert(readme.README.read_text(), block) == readme.README.read_text(), (
        "out of date: python -m aevb.readme"
    )


def test_the_picture_was_drawn_from_the_stored_records() -> None:
    with Image.open(readme.PICTURE) as picture:
        assert picture.info["Source"] == readme.source(readme.shown()), (
            "out of date: python -m aevb.readme"
        )


def test_another_record_is_another_source() -> None:
    records = readme.shown()
    assert readme.source(records) == readme.source(records[::-1])
    assert readme.source(records) != readme.source(records[1:])


def test_a_missing_mark_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one"):
        readme.insert("no marks", "table")


def test_every_link_within_the_repository_arrives() -> None:
    text = readme.README.read_text()
    links = re.findall(r"\]\(([^)]+)\)", text)
    within = [link for link in links if not link.startswith("https://")]
    assert len(within) > 20
    for link in within:
        path, _, anchor = link.partition("#")
        assert (readme.README.parent / path).exists(), link
        headings = [
            title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)", text, re.M)
        ]
        assert not anchor or anchor in headings, link


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"```python\n(.*?)```", readme.README.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("200_000", "2_000"), names)
    assert float(capsys.readouterr().out) < 0
    assert names["z"].shape == (800, 2)
    assert names["new"].shape == (16, 64)
