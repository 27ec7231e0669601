"""The build forgets its pages when something that they show or that makes them has changed."""

from pathlib import Path

import pytest
from fresh_cache import digest


@pytest.mark.parametrize(
    "changed",
    [
        "aevb/models.py",
        "aevb/digitised/fig2.csv",
        "book/_ext/page.py",
        "book/_ext/explorer/__init__.py",
        "book/results/figure-2/a.json",
        "elsewhere/figure-2/a.json",
        "_config.yml",
    ],
)
def test_each_thing_that_a_page_depends_on_is_in_the_digest(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEVB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AEVB_RESULTS", str(tmp_path / "elsewhere"))
    path = tmp_path / changed
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("before")
    before = digest(tmp_path)
    assert digest(tmp_path) == before
    path.write_text("after")
    assert digest(tmp_path) != before


def test_a_record_elsewhere_counts_only_where_pages_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AEVB_RESULTS", raising=False)
    before = digest(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.json").touch()
    assert digest(tmp_path) == before
