r"""The paper's own curves, read from the files in ``digitised``: the data behind ``reference``."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FIGURES",
    "N_TRAIN",
    "Curve",
    "Key",
    "ReferenceError",
    "curve",
    "curves",
    "interpolate",
]

FIGURES = ("figure-2", "figure-3")
N_TRAIN = {"mnist": 50_000, "frey-face": 1_600}
"""The training images of Figure 2. The paper does not say; its curves fit these."""
_FILES = {"figure-2": "fig2.csv", "figure-3": "fig3.csv"}


class ReferenceError(ValueError):
    """A curve that the paper does not have, or records that cannot be compared with it."""


class Key(NamedTuple):
    """What a pair of curves, test and train, is of."""

    dataset: str
    n_train: int
    latent_dim: int
    algorithm: str


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve of the paper.

    Attributes:
        samples: Training samples evaluated, increasing.
        values: Nats per datapoint at each.
        start: The first log, where the figure has one. It stands apart: from there to
            ``samples[0]`` the figure shows one straight stroke, which says nothing.
        log_x: Whether the figure's horizontal axis is logarithmic.
    """

    samples: NDArray[np.float64]
    values: NDArray[np.float64]
    start: tuple[float, float] | None
    log_x: bool

    def at(self, samples: float) -> float | None:
        """The value there, on the line that the figure draws.

        Returns:
            Nats per datapoint, or ``None`` where the figure says nothing: left of the second
            log (but for the first log itself), and right of the last.
        """
        if self.start and samples == self.start[0]:
            return self.start[1]
        value = interpolate(samples, self.samples, self.values, self.log_x)
        return None if np.isnan(value) else float(value)


def curve(
    figure: str, *, dataset: str, n_train: int, latent_dim: int, algorithm: str, split: str
) -> Curve:
    """One curve of the paper.

    Args:
        figure: ``figure-2`` (the lower bound) or ``figure-3`` (the marginal likelihood).
        dataset: ``mnist`` or ``frey-face``.
        n_train: Training images: 50,000 (MNIST) and 1,600 (Frey Face) in Figure 2, 1,000 or
            50,000 in Figure 3.
        latent_dim: The number of latent variables, :math:`N_z`.
        algorithm: ``aevb``, ``wake-sleep`` or ``mcem``.
        split: ``test`` or ``train``.

    Raises:
        ReferenceError: If the paper has no such curve, with what it has.
    """
    found = curves(figure)
    wanted = {**Key(dataset, n_train, latent_dim, algorithm)._asdict(), "split": split}
    left = list(found)
    for place, (name, value) in enumerate(wanted.items()):
        known = list(dict.fromkeys(key[place] for key in left))
        if value not in known:
            expected = ", ".join(str(one) for one in known)
            raise ReferenceError(f"{figure}: {name}: expected one of {expected}; found {value!r}")
        left = [key for key in left if key[place] == value]
    return found[left[0]]


@cache
def curves(figure: str) -> dict[tuple[Any, ...], Curve]:
    """Every curve of a figure, by the fields of its :class:`Key` and its split.

    Raises:
        ReferenceError: If the figure has no curves.
    """
    if figure not in FIGURES:
        raise ReferenceError(f"figure: expected one of {', '.join(FIGURES)}; found {figure!r}")
    text = (files("aevb") / "digitised" / _FILES[figure]).read_text()
    points = [_point(line) for line in csv.DictReader(text.splitlines())]
    found = {}
    for key, group in groupby(points, key=lambda point: point[0]):
        marked = list(group)
        start = next(((x, y) for _, x, y, mark in marked if mark == "start"), None)
        logged = np.array([(x, y) for _, x, y, mark in marked if mark != "start"])
        found[key] = Curve(logged[:, 0], logged[:, 1], start, figure == "figure-2")
    return found


def interpolate(at: Any, samples: Any, values: Any, log_x: bool) -> Any:
    """Linear between the known samples, or between their logarithms; NaN outside them."""
    at, samples = (np.log10(at), np.log10(samples)) if log_x else (at, samples)
    return np.interp(at, samples, values, left=np.nan, right=np.nan)


def _point(line: dict[str, str]) -> tuple[tuple[Any, ...], float, float, str]:
    dataset = line.get("dataset", "mnist")  # Figure 3 is MNIST with 3 latent variables
    n_train = int(line.get("n_train", N_TRAIN[dataset]))
    latent_dim = int(line.get("latent_dim", 3))
    key = (*Key(dataset, n_train, latent_dim, line["algorithm"]), line["split"])
    return key, float(line["samples"]), float(line["nats"]), line["mark"]
