"""Symmetries of the weights: their generators, how many zeros they make, and who breaks them."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from dy33lib.hessian.curvature import Loss, hvp
from dy33lib.hessian.networks import Net, check_slope, parameters, with_parameters, with_slope

# Generators --------------------------------------------------------------------------------------


def hidden_widths(model: Net) -> tuple[int, ...]:
    """Units of each hidden layer: the sizes of its mixing matrices; channels if convolutional."""
    return tuple(w.shape[0] for w in model.weights[:-1])


def gauge_action(model: Net, mixing: Sequence[Float[Array, "_ _"]]) -> Float[Array, " P"]:
    r"""The change of the weights when hidden units are mixed and unmixed again.

    With one matrix :math:`A_l` for each hidden layer,
    :math:`\delta W_l = A_l W_l - W_l A_{l-1}`, where :math:`A_0 = A_L = 0`: the layer's outputs
    are multiplied by :math:`1 + A_l` and the next layer's inputs by :math:`1 - A_l`. A linear
    network does not notice. In a convolution A mixes channels.

    Raises:
        ValueError: if a matrix does not fit its layer.
    """
    sizes = hidden_widths(model)
    if [np.shape(A) for A in mixing] != [(h, h) for h in sizes]:
        raise ValueError(
            f"mixing must be square matrices of sizes {sizes}, "
            f"got shapes {[np.shape(A) for A in mixing]}"
        )
    change = []
    for layer, w in enumerate(model.weights):
        rows = jnp.zeros_like(w)
        if layer < len(sizes):
            rows = jnp.tensordot(mixing[layer], w, 1)
        if layer > 0:
            columns = jnp.tensordot(w, mixing[layer - 1], ([1], [0]))
            rows = rows - jnp.moveaxis(columns, -1, 1)
        change.append(rows)
    return ravel_pytree(tuple(change))[0]


def gauge_generators(model: Net) -> tuple[Float[np.ndarray, "G P"], Int[np.ndarray, "G 3"]]:
    """The changes of the weights by every elementary mixing of two hidden units.

    Returns:
        One row a generator, and one row of labels, the hidden layer (from 0 on) and units i and j.
        The input of unit i gets that of unit j added; i = j rescales a unit.
    """
    weights = [np.asarray(w) for w in model.weights]
    rows, labels = [], []
    for layer, h in enumerate(hidden_widths(model)):
        for i in range(h):
            for j in range(h):
                change = [np.zeros_like(w) for w in weights]
                change[layer][i] = weights[layer][j]
                change[layer + 1][:, j] = -weights[layer + 1][:, i]
                rows.append(np.concatenate([w.ravel() for w in change]))
                labels.append((layer, i, j))
    return np.array(rows), np.array(labels)


def rescaling_generators(
    model: Net,
) -> tuple[Float[np.ndarray, "G P"], Int[np.ndarray, "G 3"]]:
    """Those of :func:`.gauge_generators` that survive a leaky ReLU: one for each hidden unit."""
    generators, labels = gauge_generators(model)
    diagonal = labels[:, 1] == labels[:, 2]
    return generators[diagonal], labels[diagonal]


class Mixings(NamedTuple):
    """The generators of all mixings, sorted by what a ReLU and a ridge do to them.

    Attributes:
        rescalings: one unit is scaled; exact symmetries of a leaky ReLU, lifted by a ridge.
        rotations: two units are rotated into each other; broken by a ReLU, not by a ridge.
        stretches: two units are sheared alike; broken by both.
    """

    rescalings: Float[np.ndarray, "_ P"]
    rotations: Float[np.ndarray, "_ P"]
    stretches: Float[np.ndarray, "_ P"]


def sort_mixings(model: Net) -> Mixings:
    """Rescalings, and sums and differences of the mixings of each pair of units."""
    generators, labels = gauge_generators(model)
    at = {tuple(label): row for label, row in zip(labels.tolist(), generators, strict=True)}
    pairs = [(row, at[layer, j, i]) for (layer, i, j), row in at.items() if i < j]
    P = generators.shape[1]
    return Mixings(
        rescaling_generators(model)[0],
        np.array([a - b for a, b in pairs]).reshape(-1, P),
        np.array([a + b for a, b in pairs]).reshape(-1, P),
    )


def logit_shift_generators(model: Net) -> Float[np.ndarray, "G P"]:
    """Changes that add the same number to all outputs, which a softmax does not notice.

    One for each input of the last layer.
    """
    zeros = [np.zeros(w.shape) for w in model.weights]
    rows = []
    for unit in np.ndindex(zeros[-1].shape[1:]):
        zeros[-1][(slice(None), *unit)] = 1.0
        rows.append(np.concatenate([w.ravel() for w in zeros]))
        zeros[-1][:] = 0.0
    return np.stack(rows)


def orbit_basis(
    generators: Float[np.ndarray, "G P"], *, rtol: float = 1e-9
) -> Float[np.ndarray, "P s"]:
    """Orthonormal columns that span the generators: the tangent space of the orbit.

    Args:
        generators: one a row; they may depend on each other.
        rtol: singular values below this share of the largest count as zero.

    Raises:
        ValueError: if a generator is not finite.
    """
    generators = np.asarray(generators, float)
    if not np.all(np.isfinite(generators)):
        raise ValueError("generators must be finite, got NaN or infinity")
    _, values, rows = np.linalg.svd(generators, full_matrices=False)
    return rows[values > rtol * np.max(values, initial=0.0)].T


def fibre_basis(model: Net, *, rtol: float = 1e-9) -> Float[np.ndarray, "P s"]:
    """Orthonormal changes of the weights that the *linear* network does not notice, for any input.

    The null space of the derivative of its end-to-end map: the orbit and the bottleneck modes,
    changes that later layers kill.

    Args:
        model: its slope is set to 1.
        rtol: singular values below this share of the largest count as zero.
    """
    _, values, rows = np.linalg.svd(np.array(_end_to_end_jacobian(with_slope(model, 1.0))))
    return rows[np.sum(values > rtol * values[0]) :].T


@eqx.filter_jit
def _end_to_end_jacobian(linear: Net) -> Float[Array, "kd P"]:
    def end_to_end(theta):
        return jax.vmap(with_parameters(linear, theta))(jnp.eye(linear.inputs)).ravel()

    return jax.jacrev(end_to_end)(parameters(linear))


# Counting ----------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Zero modes of a deep linear network at a generic global minimum.

    Attributes:
        params: number of weights.
        zeros: zero eigenvalues of the Hessian.
        gauge: dimension of the orbit of the symmetry.
        bottleneck: the rest, changes of one layer that others kill.
    """

    params: int
    zeros: int
    gauge: int
    bottleneck: int


def count_zero_modes(widths: Sequence[int]) -> Counts:
    r"""Zero modes of the squared error of a deep linear network, by counting alone.

    The Hessian at a global minimum has the rank of the derivative of the end-to-end map, which
    for generic weights is :math:`q(d + k - q)` with d inputs, k outputs and q the smallest width
    (Singh, Bachmann and Hofmann 2021, arXiv:2106.16225). The orbit has the dimension of the group,
    :math:`\sum_l h_l^2`, minus that of the stabiliser, which follows from the decomposition of
    the weights, a representation of a quiver of type A, into intervals of layers (Gabriel 1972).

    Args:
        widths: numbers of units, inputs and outputs included.

    Raises:
        ValueError: if there is no hidden layer or a width is not positive.
    """
    widths = tuple(int(n) for n in widths)
    if len(widths) < 3 or min(widths) < 1:
        raise ValueError(f"widths must be (inputs, hidden, ..., outputs), all >= 1, got {widths}")
    last, q = len(widths) - 1, min(widths)
    params = sum(a * b for a, b in pairwise(widths))
    zeros = params - q * (widths[0] + widths[-1] - q)

    def rank(a: int, b: int) -> int:  # of the product of weights from layer a to layer b
        return min(widths[a : b + 1]) if a >= 0 and b <= last else 0

    intervals = {
        (a, b): rank(a, b) - rank(a - 1, b) - rank(a, b + 1) + rank(a - 1, b + 1)
        for a in range(last + 1)
        for b in range(a, last + 1)
    }
    # A map from one interval into another lives on layers a to d; it must not touch the ends.
    stabiliser = sum(
        m * n
        for (a, b), m in intervals.items()
        for (c, d), n in intervals.items()
        if c <= a <= d <= b and a > 0 and d < last
    )
    gauge = sum(h * h for h in widths[1:-1]) - stabiliser
    return Counts(params, zeros, gauge, zeros - gauge)


def goldstone_counts(hidden: Sequence[int], ranks: Sequence[int]) -> tuple[int, int]:
    r"""Eigenvalues 0 and 2λ that the symmetry of a linear network leaves under a ridge λ.

    At a stationary point :math:`H v = \lambda (X + X^\top)\theta` for a generator
    :math:`v = X\theta`: rotations (antisymmetric X) keep their zero, stretches (symmetric X) are
    lifted to 2λ. A layer of h units through which a map of rank r passes has
    :math:`r(2h - r - 1)/2` of the first and :math:`r(2h - r + 1)/2` of the second kind.

    Args:
        hidden: units of each hidden layer (channels of a convolution).
        ranks: of the weights that pass through each.

    Raises:
        ValueError: if the lengths differ, or a rank is negative or larger than its layer.
    """
    if len(hidden) != len(ranks) or any(
        not 0 <= r <= h for h, r in zip(hidden, ranks, strict=False)
    ):
        raise ValueError(f"ranks must lie between 0 and {list(hidden)}, got {list(ranks)}")
    pairs = list(zip(hidden, ranks, strict=True))
    return (
        sum(r * (2 * h - r - 1) // 2 for h, r in pairs),
        sum(r * (2 * h - r + 1) // 2 for h, r in pairs),
    )


# Identities --------------------------------------------------------------------------------------


def ward_residual(loss: Loss, model: Net, mixing: Sequence[Float[Array, "_ _"]]) -> float:
    r"""How far a mixing is from a symmetry of the loss: 0 if it is one, minimum or not.

    If :math:`L(e^{tX}\theta) = L(\theta)` for all t, the second derivative gives the identity
    :math:`H X\theta = -X^\top \nabla L` at *every* :math:`\theta` away from kinks. Returned is the
    norm of the difference over that of :math:`X^\top\nabla L`.

    Args:
        loss: of the network alone, without a ridge.
        model: the network.
        mixing: as in :func:`.gauge_action`.
    """
    return float(_ward(loss, model, list(mixing)))


@eqx.filter_jit
def _ward(loss: Loss, model: Net, mixing: list[Float[Array, "_ _"]]) -> Float[Array, ""]:
    theta = parameters(model)
    gradient = jax.grad(lambda v: loss(with_parameters(model, v)))(theta)
    change, transpose = jax.vjp(lambda v: gauge_action(with_parameters(model, v), mixing), theta)
    (turned,) = transpose(gradient)
    return jnp.linalg.norm(hvp(loss, model, change) + turned) / jnp.linalg.norm(turned)


def leaky_curvature(
    W1: Float[np.ndarray, "h d"], W2: Float[np.ndarray, "k h"], slope: float
) -> Float[np.ndarray, "h h"]:
    r"""Curvature of the squared error along each mixing of a two-layer leaky ReLU network.

    For standard normal inputs and a network that fits exactly, along the generator that adds the
    input of unit j to unit i,

    .. math::
        v^\top H v = (1 - \alpha)^2\, |W_{2,\cdot i}|^2\, |w_j|^2\,
        \frac{\vartheta_{ij} - \sin\vartheta_{ij}\cos\vartheta_{ij}}{\pi} ,

    where α is the slope and :math:`\vartheta_{ij}` the angle between the input weights. The
    average is an arc-cosine integral (Cho and Saul 2009): only inputs that open one unit and not
    the other contribute.

    Raises:
        ValueError: if the shapes do not fit, or the slope is not between 0 and 1.
    """
    W1, W2 = np.asarray(W1, float), np.asarray(W2, float)
    if W1.ndim != 2 or W2.ndim != 2 or W2.shape[1] != W1.shape[0]:
        raise ValueError(f"W1 and W2 must be matrices that chain, got {W1.shape} and {W2.shape}")
    check_slope(slope)
    length = np.linalg.norm(W1, axis=1)
    cosine = np.clip(W1 @ W1.T / np.outer(length, length), -1, 1)  # rounding alone leaves [-1, 1]
    np.fill_diagonal(cosine, 1.0)
    angle = np.arccos(cosine)
    share = (angle - np.sin(angle) * cosine) / np.pi
    return (1 - slope) ** 2 * np.sum(W2**2, axis=0)[:, None] * length**2 * share


# At any size -------------------------------------------------------------------------------------


class Projection(NamedTuple):
    """A vector's part in the symmetry space.

    Attributes:
        vector: the part.
        residual: norm of the normal equations' residual over that of their right-hand side.
    """

    vector: Float[Array, " P"]
    residual: Float[Array, ""]


@eqx.filter_jit
def project_gauge(
    model: Net, v: Float[Array, " P"], *, steps: int = 200, tol: float = 1e-6
) -> Projection:
    """The part of a vector in the span of :func:`.gauge_generators`, without forming them.

    Least squares over mixings by conjugate gradients. The normal operator of one layer alone is
    A -> A S + T A with two positive matrices, which is inverted exactly; that is the
    preconditioner.

    Args:
        model: the network.
        v: as long as the weights.
        steps: most iterations.
        tol: relative residual of the normal equations.
    """
    sizes = hidden_widths(model)
    act = partial(gauge_action, model)
    pull = jax.linear_transpose(act, [jnp.zeros((h, h), v.dtype) for h in sizes])

    def normal(mixing):
        return pull(act(mixing))[0]

    factors = []
    for layer, h in enumerate(sizes):
        w, after = model.weights[layer], model.weights[layer + 1]
        inward = w.reshape(h, -1)
        outward = jnp.moveaxis(after, 1, 0).reshape(h, -1)
        factors.append((jnp.linalg.eigh(inward @ inward.T), jnp.linalg.eigh(outward @ outward.T)))

    def precondition(mixing):
        result = []
        for A, ((s, U), (t, V)) in zip(mixing, factors, strict=True):
            sums = t[:, None] + s[None, :]
            scaled = (V.T @ A @ U) / jnp.maximum(sums, 1e-6 * jnp.max(sums))
            result.append(V @ scaled @ U.T)
        return result

    target = pull(v)[0]
    mixing, _ = jax.scipy.sparse.linalg.cg(normal, target, tol=tol, maxiter=steps, M=precondition)
    left = ravel_pytree(normal(mixing))[0] - ravel_pytree(target)[0]
    return Projection(act(mixing), jnp.linalg.norm(left) / jnp.linalg.norm(ravel_pytree(target)[0]))
