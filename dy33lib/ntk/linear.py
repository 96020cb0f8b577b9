"""A two-layer linear network, solved exactly at every width."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num
from scipy import integrate

from dy33lib.ntk._checks import check_positive


class LinearFlow(NamedTuple):
    """Kernel of the two-layer linear network before and after training."""

    theta_initial: float
    theta_final: float

    @property
    def change(self) -> float:
        """Distance of the final from the initial kernel, relative to the initial one."""
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
    a, w = _checked(a, w, gamma)
    width = a.size
    plus, minus = np.sum((a + w) ** 2), np.sum((a - w) ** 2)
    target = 4 * gamma * np.sqrt(width) * y
    root = np.sqrt(target**2 + 4 * plus * minus)
    # The positive root of P u^2 - target u - M = 0, written without cancellation for either sign.
    u = (target + root) / (2 * plus) if target >= 0 else 2 * minus / (root - target)
    norm = 2 * gamma**2 * width
    return LinearFlow(float((plus + minus) / norm), float((plus * u + minus / u) / norm))


def simulate_two_layer_linear_flow(
    a: Num[Array | np.ndarray, " width"],
    w: Num[Array | np.ndarray, " width"],
    y: float,
    gamma: float,
    *,
    rtol: float = 1e-8,
) -> LinearFlow:
    """The same kernels as :func:`.two_layer_linear_flow`, by integrating every weight in time.

    Nothing of the closed form is used: gradients come from automatic differentiation of the
    network's output, the equations of motion are solved by an adaptive Runge-Kutta method of
    order 8 until the loss has fallen by a factor of 1e-12.

    Raises:
        ValueError: as in :func:`.two_layer_linear_flow`.
        RuntimeError: if the integration fails.
    """
    a, w = _checked(a, w, gamma)
    scale = gamma * np.sqrt(a.size)

    def gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        f, g = _product_and_gradient(flat.reshape(2, -1))
        return float(f) / scale, np.asarray(g).reshape(-1) / scale

    def velocity(_: float, flat: np.ndarray) -> np.ndarray:
        f, g = gradient(flat)
        return -(f - y) * g

    def fitted(_: float, flat: np.ndarray) -> float:
        return float(np.log(abs(flat[: a.size] @ flat[a.size :] / scale - y) + 1e-300)) - goal

    start = np.concatenate([a, w])
    theta = [float(np.sum(gradient(start)[1] ** 2))]
    goal = float(np.log(abs(a @ w / scale - y))) - 6 * np.log(10)
    fitted.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    # The kernel only sets the pace: the residual falls at least as fast as exp(-t min theta).
    solution = integrate.solve_ivp(
        velocity, (0, 1e4 / theta[0]), start, method="DOP853", rtol=rtol, atol=1e-12, events=fitted
    )
    if solution.status != 1:
        raise RuntimeError(f"gradient flow did not reach the target: {solution.message}")
    theta.append(float(np.sum(gradient(solution.y[:, -1])[1] ** 2)))
    return LinearFlow(*theta)


def fkt_width_linear(y: float, gamma: float, ratio: float = 1.0) -> float:
    r"""Width at which training changes the kernel of the linear network by `ratio`.

    For :math:`P = M = 2N` in :func:`.two_layer_linear_flow` the kernel grows by
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


@jax.jit
@jax.value_and_grad
def _product_and_gradient(weights: Float[Array, "2 width"]) -> Float[Array, ""]:
    return jnp.dot(weights[0], weights[1])


def _checked(
    a: Array | np.ndarray, w: Array | np.ndarray, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    a, w = np.asarray(a, np.float64), np.asarray(w, np.float64)
    if a.ndim != 1 or a.shape != w.shape or a.size == 0:
        raise ValueError(f"expected a and w of one shape (width,), got {a.shape} and {w.shape}")
    check_positive("gamma", gamma)
    return a, w
