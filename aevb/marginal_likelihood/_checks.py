"""What the estimators refuse alike."""

from torch import Tensor

__all__ = ["check_datapoints", "check_numbers"]


def check_datapoints(x: Tensor) -> None:
    """Refuse what is no matrix of datapoints, or an empty one.

    Raises:
        ValueError: If ``x`` has not two dimensions, or a size is zero.
    """
    if x.ndim != 2:
        raise ValueError(f"x: expected the shape (M, D), found {tuple(x.shape)}")
    if not x.numel():
        raise ValueError(f"x: expected at least one datapoint, found the shape {tuple(x.shape)}")


def check_numbers(lost: Tensor) -> None:
    """Refuse a model whose density is not a number somewhere.

    Args:
        lost: For which datapoints it is not, shape ``(M,)``.

    Raises:
        ValueError: If there are such, with how many.
    """
    if lost.any():
        raise ValueError(
            "model: expected a log joint density that is a number, found another value for "
            f"{int(lost.sum()):,} of {len(lost):,} datapoints"
        )
