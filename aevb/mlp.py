r"""Multilayer perceptrons that return distributions (paper, Appendix C).

One hidden layer of tanh units; the output is not a vector but a distribution over one, as
the paper writes it: :math:`p_\theta(x|z)` or :math:`q_\phi(z|x)`.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal

__all__ = ["BernoulliMLP", "GaussianMLP", "initialize"]


class GaussianMLP(nn.Module):
    r"""A diagonal Gaussian whose mean and variance a network computes (paper, eq. 12).

    .. math::
        & \log p(x|z) = \log \mathcal{N}(x; \mu, \operatorname{diag} \sigma^2), \\
        & \mu = W_4 h + b_4, \quad \log \sigma^2 = W_5 h + b_5, \\
        & h = \tanh(W_3 z + b_3)

    As recognition model, swap :math:`x` and :math:`z`. As generative model of Frey Face the
    mean passes through a sigmoid (section 5), which eq. 12 does not show.

    Args:
        inputs: The size of the conditioning vector.
        hidden: The number of tanh units.
        outputs: The size of the vector that the distribution is over.
        squash_mean: Whether the mean passes through a sigmoid, into (0, 1).
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, squash_mean: bool = False):
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.mean = nn.Linear(hidden, outputs)
        self.log_variance: nn.Module = nn.Linear(hidden, outputs)
        self.squash_mean = squash_mean

    def forward(self, given: Tensor) -> Independent:
        """The distribution given ``(..., inputs)``: batch shape ``(...)``, event ``(outputs,)``."""
        h = torch.tanh(self.hidden(given))
        mean = self.mean(h)
        if self.squash_mean:
            mean = torch.sigmoid(mean)
        scale = torch.exp(0.5 * self.log_variance(h))
        return Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)


class BernoulliMLP(nn.Module):
    r"""Independent Bernoulli pixels whose probabilities a network computes (paper, eq. 11).

    .. math::
        & \log p(x|z) = \sum_{i=1}^{D} x_i \log y_i + (1 - x_i) \log(1 - y_i), \\
        & y = f_\sigma(W_2 \tanh(W_1 z + b_1) + b_2)

    The experiments evaluate this sum at real-valued pixels in [0, 1], as the paper does, so
    the distribution does not check that its argument is binary.

    Args:
        inputs: The size of the conditioning vector.
        hidden: The number of tanh units.
        outputs: The number of pixels, :math:`D`.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.logits = nn.Linear(hidden, outputs)

    def forward(self, given: Tensor) -> Independent:
        """The distribution given ``(..., inputs)``: batch shape ``(...)``, event ``(outputs,)``."""
        logits = self.logits(torch.tanh(self.hidden(given)))
        return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


@torch.no_grad()
def initialize(
    module: nn.Module, generator: torch.Generator | None = None, std: float = 0.01
) -> None:
    r"""Draw every parameter from :math:`\mathcal{N}(0, \mathrm{std}^2)`, in place.

    The paper writes :math:`\mathcal{N}(0, 0.01)`; its curves start where a standard deviation
    of 0.01 puts them, not a variance of 0.01.

    Args:
        module: The network whose weights and biases are drawn.
        generator: The source of randomness.
        std: The standard deviation.

    Raises:
        ValueError: If ``std`` is negative or not finite.
    """
    if not 0 <= std < math.inf:
        raise ValueError(f"std: expected a standard deviation of at least 0, found {std}")
    for parameter in module.parameters():
        parameter.normal_(0.0, std, generator=generator)
