"""What the estimators refuse alike."""

from torch import Tensor

__all__ = ["check_numbers"]


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
