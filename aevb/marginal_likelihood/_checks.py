"""What the estimators refuse alike."""

from torch import Tensor

from aevb._checks import check_matrix

__all__ = ["EstimateError", "check_datapoints", "check_numbers"]


class EstimateError(ValueError, RuntimeError):
    """A model whose likelihood cannot be estimated."""


def check_datapoints(x: Tensor) -> None:
    """Refuse what is no matrix of datapoints, or an empty one.

    Raises:
        ValueError: If ``x`` has not two dimensions, or a size is zero.
    """
    check_matrix(x, expected="the shape (M, D)")
    if not x.numel():
        raise ValueError(f"x: expected at least one datapoint, found the shape {tuple(x.shape)}")


def check_numbers(lost: Tensor) -> None:
    """Refuse a model whose density is not a number somewhere.

    Args:
        lost: For which datapoints it is not, shape ``(M,)``.

    Raises:
        EstimateError: If there are such, with how many.
    """
    if lost.any():
        raise EstimateError(
            "model: expected a log joint density that is a number, found another value for "
            f"{int(lost.sum()):,} of {len(lost):,} datapoints"
        )
