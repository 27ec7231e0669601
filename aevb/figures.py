r"""The paper's figures, drawn from records alone (paper, Figures 1 to 5).

A function a figure, one style for all. Nothing is trained here. A figure of runs that are shorter
than the paper's says so on its face.
"""

from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from torch import Tensor

from aevb import experiments
from aevb._lower_bound import figure_2, figure_2_panel
from aevb._marginal_likelihood import figure_3
from aevb._page import STYLE, Page, runs_of, shortfall
from aevb.models import LatentVariableModel
from aevb.results import Record
from aevb.tables import DATASETS

__all__ = [
    "Page",
    "decode",
    "figure_1",
    "figure_2",
    "figure_2_panel",
    "figure_3",
    "figure_4",
    "figure_5",
    "latent_grid",
    "tile",
]

SHAPES = {"mnist": (28, 28), "frey-face": (28, 20)}
"""Rows and columns of an image."""


@matplotlib.rc_context(STYLE)
def figure_1() -> Page:
    """The directed graphical model (paper, Figure 1).

    Solid arrows are the generative model, dashed ones its variational approximation.
    """
    page = Page(figsize=(4.0, 3.0), layout="constrained")
    axes = page.subplots()
    axes.set(xlim=(0, 4), ylim=(0, 3), aspect="equal")
    axes.axis("off")
    plate = FancyBboxPatch((1.1, 0.2), 1.8, 2.6, boxstyle="round,pad=0,rounding_size=0.12")
    plate.set(fill=False, linewidth=1.2)
    axes.add_patch(plate)
    axes.text(2.75, 0.34, "$N$", fontsize=15, ha="right", va="bottom")
    phi, z, theta, x = (0.45, 2.2), (2.0, 2.2), (3.55, 2.2), (2.0, 0.85)
    for name, place in ((r"$\phi$", phi), ("$z$", z), (r"$\theta$", theta), ("$x$", x)):
        axes.text(*place, name, fontsize=19, ha="center", va="center")
    for place, color in ((z, "white"), (x, "0.8")):
        axes.add_patch(Circle(place, 0.33, facecolor=color, edgecolor="black", linewidth=1.2))
    _arrow(axes, theta, z, leave=0.2)
    _arrow(axes, theta, x, leave=0.2)
    _arrow(axes, z, x)
    _arrow(axes, phi, z, leave=0.2, dashed=True)
    _arrow(axes, x, z, dashed=True, bend=-0.6)
    return page


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    leave: float = 0.35,
    dashed: bool = False,
    bend: float = 0.0,
) -> None:
    """From one node to another. The head is solid even where the shaft is dashed.

    ``leave`` is the distance from the first node's center at which the arrow begins, ``bend`` how
    far to the right of the way its control point lies, as a share of the length.
    """
    a, b = np.array(start), np.array(end)
    way = b - a
    control = (a + b) / 2 + bend * np.array([way[1], -way[0]])
    forward = (b - control) / np.linalg.norm(b - control)
    first = a + leave * (control - a) / np.linalg.norm(control - a)
    last = b - 0.35 * forward
    neck = last - 0.15 * forward
    side = 0.06 * np.array([-forward[1], forward[0]])
    shaft = Path([first, control, neck], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    style = (0, (4, 3)) if dashed else "-"
    axes.add_patch(PathPatch(shaft, fill=False, linewidth=1.2, linestyle=style))
    axes.add_patch(Polygon([last, neck + side, neck - side], color="black", linewidth=0))


@matplotlib.rc_context(STYLE)
def figure_4(records: Iterable[Record]) -> Page:
    """The data manifolds that two-dimensional latent spaces have learned (paper, Figure 4).

    Equally spaced points of the unit square, taken to the latent plane by the inverse of the
    Gaussian's distribution function; at each, the mean of the generative model.

    Args:
        records: Among them one of each data set with two latent variables and its weights.

    Raises:
        ValueError: If one of the two is not there.
        aevb.results.RecordError: If weights are missing or damaged.
    """
    records = list(records)
    frey, mnist = (_record(records, dataset, 2) for dataset in ("frey-face", "mnist"))
    page = Page(figsize=(9, 5.7), layout="compressed")
    panels = page.subplots(1, 2, width_ratios=[10 * 20 / (10 * 28), 1])
    for axes, record, side, letter in ((panels[0], frey, 10, "a"), (panels[1], mnist, 20, "b")):
        name = DATASETS[record.configuration["dataset"]]
        _images(axes, record, latent_grid(side), side, f"({letter}) Learned {name} manifold")
    return page


@matplotlib.rc_context(STYLE)
def figure_5(records: Iterable[Record], seed: int = 0) -> Page:
    """Random samples of the MNIST models (paper, Figure 5).

    Args:
        records: Among them one for each N_z = 2, 5, 10 and 20 with its weights.
        seed: Of the latent vectors, drawn from the prior.

    Returns:
        The generative model's probabilities, not draws of black and white pixels, as the paper
        shows them.

    Raises:
        ValueError: If one of the four is not there.
        aevb.results.RecordError: If weights are missing or damaged.
    """
    records = list(records)
    page = Page(figsize=(11, 3.2), layout="compressed")
    dims = experiments.SHOWN["mnist"]
    for axes, latent_dim, letter in zip(page.subplots(1, 4), dims, "abcd", strict=True):
        record = _record(records, "mnist", latent_dim)
        z = torch.randn(100, latent_dim, generator=torch.Generator().manual_seed(seed))
        _images(axes, record, z, 10, f"({letter}) {latent_dim}-D latent space")
    return page


def _record(records: Sequence[Record], dataset: str, latent_dim: int) -> Record:
    for key, runs in runs_of(records).items():
        if (key.dataset, key.latent_dim, key.algorithm) == (dataset, latent_dim, "aevb"):
            return next((record for record in runs if record.weights), runs[0])
    found = ", ".join(record.name for record in records) or "none"
    raise ValueError(
        f"records: expected one of {dataset} with latent_dim {latent_dim}; found {found}"
    )


def _images(axes: Axes, record: Record, z: Tensor, columns: int, title: str) -> None:
    dataset = record.configuration["dataset"]
    means = decode(experiments.trained_model(record), z).unflatten(-1, SHAPES[dataset])
    axes.imshow(
        tile(means, columns).numpy(),
        cmap="gray_r" if dataset == "mnist" else "gray",  # MNIST: dark strokes on white
        vmin=0,
        vmax=1,
    )
    axes.axis("off")
    note = shortfall([record]).replace("\n", " ")
    axes.set_title("\n".join(filter(None, [title, note])))


def latent_grid(side: int) -> Tensor:
    r"""Points of a two-dimensional latent space, equally spaced in probability.

    .. math::
        z = \Phi^{-1}\left(\frac{i + 1/2}{n}\right), \qquad i = 0, \dots, n - 1

    Args:
        side: :math:`n`, the points along each of the two axes.

    Returns:
        Row by row from the top left, shape ``(side * side, 2)``: the first coordinate grows to
        the right, the second upwards.
    """
    z = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    up, right = torch.meshgrid(z.flip(0), z, indexing="ij")
    return torch.stack([right, up], -1).flatten(0, 1)


def decode(model: LatentVariableModel, z: Tensor) -> Tensor:
    """The generative model's means, shape ``(K, D)``, at latent vectors of shape ``(K, J)``."""
    with torch.no_grad():
        z = z.to(next(model.generative_model.parameters()))
        return model.generative_model(z).mean


def tile(images: Tensor, columns: int) -> Tensor:
    """Lay images side by side, row by row from the top left, without gaps.

    Args:
        images: Shape ``(K, height, width)``.
        columns: Images in a row.

    Returns:
        Shape ``(K / columns * height, columns * width)``.

    Raises:
        ValueError: If the images do not fill the rows.
    """
    count, height, width = images.shape
    if count % columns:
        raise ValueError(f"images: expected a multiple of {columns}, found {count}")
    rows = images.reshape(-1, columns, height, width).transpose(1, 2)
    return rows.reshape(count // columns * height, columns * width)
