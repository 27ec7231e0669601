"""What several modules refuse alike."""

from torch import Tensor

__all__ = ["check_matrix"]


def check_matrix(x: Tensor, name: str = "x", expected: str = "a minibatch of shape (M, D)") -> None:
    """Refuse what is no matrix of datapoints.

    Args:
        x: What has to be one.
        name: Its name in the message.
        expected: What it should be, in the message.

    Raises:
        ValueError: If ``x`` has not two dimensions.
    """
    if x.ndim != 2:
        raise ValueError(f"{name}: expected {expected}, found {tuple(x.shape)}")
