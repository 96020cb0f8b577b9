"""Where the near-zero part of a spectrum comes from: a table for any network of ours."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dy33lib.hessian.curvature import Loss, full_hessian
from dy33lib.hessian.networks import Net, parameters, with_parameters
from dy33lib.hessian.symmetries import (
    fibre_basis,
    gauge_generators,
    logit_shift_generators,
    orbit_basis,
    rescaling_generators,
)

# Bounds of |eigenvalue| over the largest one; below the first a zero cannot be told from rounding.
EDGES = (1e-13, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class Attribution(NamedTuple):
    """A spectrum and the parts of its eigenvectors in orthogonal subspaces.

    Attributes:
        values: eigenvalues, ascending in size.
        names: of the subspaces.
        dims: their dimensions, which add up to the number of weights.
        parts: overlap of each eigenvector with each subspace; each row adds up to 1.
    """

    values: Float[np.ndarray, " P"]
    names: tuple[str, ...]
    dims: tuple[int, ...]
    parts: Float[np.ndarray, "P groups"]

    def rows(self) -> list[list[str]]:
        """A table: range of eigenvalues, their number, and the share of each subspace.

        The last row is what chance would give: the dimensions over the number of weights.
        """
        size = np.abs(self.values) / np.max(np.abs(self.values))
        table = []
        for low, high in zip((-1.0, *EDGES), EDGES, strict=False):
            inside = (size > low) & (size <= high)
            if inside.any():
                name = "zero to rounding" if low < 0 else f"{low:.0e} to {high:.0e}"
                shares = self.parts[inside].mean(axis=0)
                table.append([name, str(inside.sum()), *(f"{share:.2f}" for share in shares)])
        P = len(self.values)
        return [*table, ["chance", str(P), *(f"{dim / P:.2f}" for dim in self.dims)]]


def attribute(
    loss: Loss, model: Net, X: Float[Array, "n d"], *, softmax: bool = False, max_params: int = 4000
) -> Attribution:
    """Split every eigenvector of the Hessian among symmetries, bottlenecks and the rest.

    The subspaces, each without what is in those before it:

    - symmetry: exact ones; all mixings of a linear network, the rescalings of a leaky ReLU, and
      shifts of all outputs under a softmax;
    - unseen: changes that alter no output for any of the inputs, to first order: dead pixels,
      dead units, and more if there are fewer outputs, counted over all inputs, than weights;
    - broken: mixings of units, which only a linear network would not notice;
    - bottleneck: other changes that a linear network of these weights would not notice (in a
      linear network taken before the unseen ones, of which they are a part);
    - rest.

    Args:
        loss: of the network alone, as in :func:`.hvp`.
        model: the network, best at a minimum.
        X: the inputs that the loss is about.
        softmax: whether the loss does not notice a shift of all outputs.
        max_params: as in :func:`.full_hessian`.

    Raises:
        ValueError: as in :func:`.full_hessian`, or if X does not fit the network.
        RuntimeError: if double precision is off.
    """
    if X.ndim != 2 or X.shape[1] != model.inputs or len(X) == 0:
        raise ValueError(f"X must have shape (samples, {model.inputs}), got {X.shape}")
    values, vectors = np.linalg.eigh(full_hessian(loss, model, max_params=max_params))
    order = np.argsort(np.abs(values), kind="stable")
    values, vectors = values[order], vectors[:, order]
    mixings = gauge_generators(model)[0]
    exact = mixings if float(model.slope) == 1 else rescaling_generators(model)[0]
    if softmax:
        exact = np.concatenate([exact, logit_shift_generators(model)])
    seen, directions = np.linalg.eigh(np.array(_gram(model, jnp.asarray(X))))
    spans = {
        "symmetry": orbit_basis(exact),
        "unseen": directions[:, seen <= 1e-12 * seen[-1]],
        "broken": orbit_basis(mixings),
        "bottleneck": fibre_basis(model),
    }
    if float(model.slope) == 1:
        spans = {name: spans[name] for name in ("symmetry", "broken", "bottleneck", "unseen")}
    taken = np.zeros((len(values), 0))
    names, dims, parts = [], [], []
    for name, span in spans.items():
        new = _beyond(span, taken)
        taken = np.concatenate([taken, new], axis=1)
        names.append(name)
        dims.append(new.shape[1])
        parts.append(np.sum((new.T @ vectors) ** 2, axis=0))
    names.append("rest")
    dims.append(len(values) - sum(dims))
    parts.append(np.clip(1 - np.sum(parts, axis=0), 0.0, 1.0))  # rounding alone leaves [0, 1]
    return Attribution(values, tuple(names), tuple(dims), np.stack(parts, axis=1))


def _beyond(
    span: Float[np.ndarray, "P s"], taken: Float[np.ndarray, "P t"]
) -> Float[np.ndarray, "P r"]:
    """Orthonormal basis of what a span adds to those taken."""
    left = span - taken @ (taken.T @ span)
    columns, values, _ = np.linalg.svd(left, full_matrices=False)
    return columns[:, values > 1e-6]


@eqx.filter_jit
def _gram(model: Net, X: Float[Array, "n d"]) -> Float[Array, "P P"]:
    """Sum over inputs and outputs of the outer product of the output's gradient."""
    theta, chunk = parameters(model), 32
    # Padding with zeros adds nothing: without biases the output for them is zero at any weights.
    padded = jnp.pad(X, ((0, -len(X) % chunk), (0, 0))).reshape(-1, chunk, X.shape[1])

    def some(total, batch):
        jacobian = jax.jacrev(lambda v: jax.vmap(with_parameters(model, v))(batch).ravel())(theta)
        return total + jacobian.T @ jacobian, None

    return jax.lax.scan(some, jnp.zeros((theta.size, theta.size)), padded)[0]
