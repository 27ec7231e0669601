r"""The README's table and picture, from the stored records: ``python -m aevb.readme``.

The picture carries the digests of the records that it was drawn from, so that a test can tell
whether either is out of date.
"""

import hashlib
import sys

from aevb import reference, results, tables

__all__ = ["insert", "main", "results_table", "shown", "source"]

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
README = results.ROOT / "README.md"
STORED = results.ROOT / "book" / "results"
PICTURE = results.ROOT / "book" / "assets" / "figure-2.png"


def results_table(rows: list[reference.Row]) -> str:
    """The test bounds of AEVB, ours and the paper's, where both are known last, in Markdown.

    Args:
        rows: What :func:`aevb.reference.compare` returned.
    """
    last = reference.ends(row for row in rows if (row.algorithm, row.split) == ("aevb", "test"))
    cells = [
        [
            f"{tables.DATASETS[row.dataset]}, N_z = {row.latent_dim}",
            f"{row.samples:.2g}".replace("e+0", "e"),
            str(row.runs),
            f"{row.ours:.1f}",
            f"{row.paper:.1f}",
            f"{row.difference:+.1f}",
        ]
        for row in last
    ]
    header = ["AEVB, test bound", "samples", "seeds", "ours", "paper", "difference"]
    return tables.markdown(header, cells)


def insert(text: str, block: str) -> str:
    """The text with what stands between the two marks replaced.

    Raises:
        ValueError: If a mark is missing.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README: expected one {BEGIN} and one {END}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}"


def shown() -> list[results.Record]:
    """The stored runs that the figure draws: those of the figure's settings, with every seed."""
    curves = reference.by_curve(results.find("figure-2", STORED))
    return [record for runs in curves.values() for record in runs]


def source(records: list[results.Record]) -> str:
    """What identifies the records that a picture was drawn from."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda record: record.name):
        assert record.path is not None
        digest.update(record.path.read_bytes())
    return digest.hexdigest()


def main() -> int:
    """Write both."""
    from aevb import figures

    records = shown()
    rows = reference.compare("figure-2", records)
    README.write_text(insert(README.read_text(), results_table(rows)))
    figure = figures.figure_2(records)
    figure.savefig(PICTURE, dpi=110, metadata={"Source": source(records)})
    print(f"{README}\n{PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
