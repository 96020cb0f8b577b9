"""A two-layer linear network, solved exactly at every width."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Num

from dy33lib.ntk._checks import check_positive


class LinearFlow(NamedTuple):
    """Kernel of the two-layer linear network before and after training."""

    theta_initial: float
    theta_final: float

    @property
    def change(self) -> float:
        """Relative change of the kernel, |final - initial| / initial."""
        return abs(self.theta_final - self.theta_initial) / self.theta_initial


def two_layer_linear_flow(
    a: Num[Array | np.ndarray, " width"],
    w: Num[Array | np.ndarray, " width"],
    y: float,
    gamma: float,
) -> LinearFlow:
    r"""Kernel of a two-layer linear network trained on one datum, in closed form.

    The network :math:`f(x) = \sum_i a_i w_i x / (\gamma\sqrt N)` is trained by gradient flow on
    the datum :math:`(x = 1, y)`. Along the flow :math:`P = \sum (a_i + w_i)^2` grows by a factor
    :math:`u` and :math:`M = \sum (a_i - w_i)^2` shrinks by the same factor, so

    .. math::
        f = \frac{Pu - M/u}{4\gamma\sqrt N}, \qquad \Theta = \frac{Pu + M/u}{2\gamma^2 N},

    and :math:`f = y` fixes :math:`u`. Nothing is averaged: this holds for each draw of the
    weights and each width. Derived for this book.

    Args:
        a: output weights, shape (width,).
        w: input weights, shape (width,).
        y: the target.
        gamma: inverse output scale, positive.

    Raises:
        ValueError: if the shapes differ, the width is 0, or gamma is not positive.
    """
    a, w = np.asarray(a, np.float64), np.asarray(w, np.float64)
    if a.ndim != 1 or a.shape != w.shape or a.size == 0:
        raise ValueError(f"expected a and w of one shape (width,), got {a.shape} and {w.shape}")
    check_positive("gamma", gamma)
    width = a.size
    plus, minus = np.sum((a + w) ** 2), np.sum((a - w) ** 2)
    target = 4 * gamma * np.sqrt(width) * y
    root = np.sqrt(target**2 + 4 * plus * minus)
    # The positive root of P u^2 - target u - M = 0, written without cancellation for either sign.
    u = (target + root) / (2 * plus) if target >= 0 else 2 * minus / (root - target)
    norm = 2 * gamma**2 * width
    return LinearFlow(float((plus + minus) / norm), float((plus * u + minus / u) / norm))


def fkt_width_linear(y: float, gamma: float, ratio: float = 1.0) -> float:
    r"""Width at which training changes the kernel of the linear network by `ratio`.

    For :math:`P = M = 2N` in :func:`two_layer_linear_flow` the kernel grows by
    :math:`\sqrt{1 + \gamma^2 y^2 / N}`; hence
    :math:`N^* = \gamma^2 y^2 / ((1 + r)^2 - 1)`, which is :math:`\gamma^2 y^2 / 3` at r = 1.

    Args:
        y: the target.
        gamma: inverse output scale, positive.
        ratio: relative change r of the kernel that defines the transition, positive.

    Raises:
        ValueError: if gamma or ratio is not positive.
    """
    check_positive("gamma", gamma)
    check_positive("ratio", ratio)
    return gamma**2 * y**2 / ((1 + ratio) ** 2 - 1)
