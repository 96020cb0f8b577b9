"""Hessians, exactly, and the minima at which they are taken."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize

from dy33lib.hessian.networks import N, Net, parameters, with_parameters

Loss = Callable[[Net], Float[Array, ""]]


def _gradient(loss: Loss, model: Net) -> Callable[[Float[Array, " P"]], Float[Array, " P"]]:
    return jax.grad(lambda vector: loss(with_parameters(model, vector)))


def hvp(loss: Loss, model: Net, v: Float[Array, " P"]) -> Float[Array, " P"]:
    """Hessian of the loss times a vector, without the Hessian (Pearlmutter 1994).

    The derivative of the gradient along v: exact, at the price of a few gradients. At a kink of a
    ReLU it is the Hessian of the smooth piece on which the automatic derivative stands.

    Args:
        loss: of the network alone; `jax.tree_util.Partial(mse_loss, X=X, Y=Y)` makes one that
            compiles once for all data of one shape.
        model: the network.
        v: along which; as long as `parameters(model)`.

    Raises:
        ValueError: if the length of v does not fit.
    """
    theta = parameters(model)
    if v.shape != theta.shape:
        raise ValueError(f"v must have shape {theta.shape}, got {v.shape}")
    return _product(loss, model, v)


@eqx.filter_jit
def _product(loss: Loss, model: Net, v: Float[Array, " P"]) -> Float[Array, " P"]:
    return jax.jvp(_gradient(loss, model), (parameters(model),), (v,))[1]


def full_hessian(
    loss: Loss, model: Net, *, chunk: int = 32, max_params: int = 4000
) -> Float[np.ndarray, "P P"]:
    """The Hessian of the loss in all weights, symmetrised, in double precision.

    Args:
        loss: of the network alone, as in :func:`.hvp`.
        model: the network.
        chunk: columns computed at once, all if there are at most 256; memory grows with it.
        max_params: refuse networks with more weights.

    Raises:
        ValueError: if there are more weights, or the Hessian is not finite.
        RuntimeError: if double precision is off.
    """
    if not jax.config.read("jax_enable_x64"):
        raise RuntimeError(
            "zeros are told from small eigenvalues in double precision only; "
            'first call jax.config.update("jax_enable_x64", True)'
        )
    P = parameters(model).size
    if P > max_params:
        raise ValueError(
            f"the network has {P} weights, and a dense Hessian is limited to {max_params}: "
            "raise max_params, or use hvp with spectral_density"
        )
    columns = np.array(_columns(loss, model, chunk))
    if not np.all(np.isfinite(columns)):
        raise ValueError("the Hessian is not finite: are there NaN in the data or the weights?")
    return (columns + columns.T) / 2


@eqx.filter_jit
def _columns(loss: Loss, model: Net, chunk: int) -> Float[Array, "P P"]:
    theta = parameters(model)
    _, product = jax.linearize(_gradient(loss, model), theta)
    P, rounds = theta.size, -(-theta.size // chunk)
    if P <= max(chunk, 256):  # a loop takes a second more to compile
        return jax.vmap(product)(jnp.eye(P))
    # Padding with zeros keeps all rounds of one shape: a rest would be compiled by itself.
    directions = jnp.eye(rounds * chunk, P).reshape(rounds, chunk, P)
    return jax.lax.map(jax.vmap(product), directions).reshape(-1, P)[:P]


class Minimum(NamedTuple):
    """How a minimisation ended.

    Attributes:
        loss: its value at the end.
        gradient: norm of the gradient at the end.
        steps: of the quasi-Newton method.
        newton: steps with the full Hessian.
        converged: whether the gradient is below the tolerance. At a minimum that lies on a kink it
            cannot be.
    """

    loss: float
    gradient: float
    steps: int
    newton: int
    converged: bool


@eqx.filter_jit
def _value_and_gradient(loss: Loss, model: Net, vector: Float[Array, " P"]):
    return jax.value_and_grad(lambda v: loss(with_parameters(model, v)))(vector)


def find_minimum(
    loss: Loss,
    model: N,
    *,
    tol: float = 1e-12,
    steps: int = 2000,
    newton: int = 10,
    strict: bool = False,
) -> tuple[N, Minimum]:
    """Minimise by L-BFGS, then polish with Newton steps in the curved directions.

    A Newton step ignores directions with less than 1e-9 of the largest curvature: along a symmetry
    there is nothing to gain. It is kept if the gradient shrinks.

    Args:
        loss: of the network alone, as in :func:`.hvp`.
        model: where to start.
        tol: norm of the gradient that counts as zero.
        steps: most iterations of L-BFGS.
        newton: most Newton steps; 0 for none (large networks).
        strict: raise if the tolerance is missed.

    Raises:
        ValueError: if tol is not positive, or the loss is not finite at the start.
        RuntimeError: if strict, and the gradient stays above the tolerance.
    """
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}")
    theta = np.array(parameters(model))

    def value_and_gradient(vector):
        value, gradient = _value_and_gradient(loss, model, jnp.asarray(vector))
        return float(value), np.array(gradient)

    value, gradient = value_and_gradient(theta)
    if not np.isfinite(value):
        raise ValueError(f"loss must be finite at the start, got {value}")
    found = minimize(
        value_and_gradient, theta, jac=True, method="L-BFGS-B",
        options={"maxiter": steps, "maxfun": 2 * steps, "ftol": 0.0, "gtol": tol, "maxcor": 30},
    )  # fmt: skip
    theta, taken = found.x, 0
    value, gradient = value_and_gradient(theta)
    while np.linalg.norm(gradient) > tol and taken < newton:
        H = full_hessian(loss, with_parameters(model, jnp.asarray(theta)))
        curvatures, directions = np.linalg.eigh(H)
        curved = np.abs(curvatures) > 1e-9 * np.max(np.abs(curvatures))
        step = directions[:, curved] @ (
            directions[:, curved].T @ gradient / np.abs(curvatures[curved])
        )
        new_value, new_gradient = value_and_gradient(theta - step)
        if not np.linalg.norm(new_gradient) < np.linalg.norm(gradient):
            break
        theta, value, gradient, taken = theta - step, new_value, new_gradient, taken + 1
    size = float(np.linalg.norm(gradient))
    if strict and size > tol:
        raise RuntimeError(f"the gradient is {size:.1e} at the end, above tol = {tol:.1e}")
    result = Minimum(value, size, int(found.nit), taken, size <= tol)
    return with_parameters(model, jnp.asarray(theta)), result
