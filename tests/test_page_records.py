"""The last lines of a chapter name the stored runs that its code reads."""

import nbformat
import page_records
import pytest
from browsing import HTML, ROOT

from aevb import results


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = 1", []),
        ('records = results.find("figure-3", results.folder(preset))', ["figure-3"]),
        ('experiments.reproduce(\n    "figure-2", preset)', ["figure-2"]),
        ('experiments.reproduce("figure-4")', ["figure-2"]),
        ("experiments.stored(e); full_vb_study.stored(r)", ["appendix-f", "figure-2"]),
    ],
)
def test_which_records_code_reads(code: str, expected: list[str]) -> None:
    assert page_records.figures(code) == expected


def test_the_sentence_says_how_many_where_and_when() -> None:
    records = results.find("figure-2")
    said = page_records.sentence(["figure-2"])
    assert f"the records in book/results/figure-2 ({len(records)} runs, seeds 0, 1" in said
    assert (ROOT / "book/results/figure-2").is_dir()
    assert all(record.provenance["date"] >= "2026" for record in records)
    assert max(record.provenance["date"] for record in records) in said
    assert "on NVIDIA H100 80GB HBM3, processors, " in said
    assert page_records.sentence([]).startswith("This page rests on no stored run")


@pytest.mark.parametrize("path", sorted(ROOT.glob("book/*.ipynb")), ids=lambda path: path.stem)
def test_every_chapter_that_reads_records_says_so(path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    names = page_records.figures(code)
    reads = any(word in code for word in ("results.find(", "reproduce(", ".stored"))
    assert bool(names) == reads, "a way of reading records that page_records does not know"
    built = HTML / f"{path.stem}.html"
    if not built.exists():
        pytest.skip("the book is not built: run `make book`")
    text = built.read_text()
    for name in names:
        assert f" in book/results/{name} (" in text
    assert 'class="page-records"' in text
