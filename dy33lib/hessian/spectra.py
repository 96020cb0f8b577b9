"""Which part of a spectrum belongs to which subspace, and what chance alone would give."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matfree import decomp

# Overlaps ----------------------------------------------------------------------------------------


def overlap(
    vectors: Float[np.ndarray, "P m"], basis: Float[np.ndarray, "P s"]
) -> Float[np.ndarray, " m"]:
    r"""Squared length :math:`|P_S e|^2` of the part of each vector in a subspace, from 0 to 1.

    Args:
        vectors: orthonormal columns, such as eigenvectors.
        basis: orthonormal columns that span the subspace S.

    Raises:
        ValueError: if shapes do not fit, or columns are not orthonormal to 1e-8.
    """
    for name, columns in (("vectors", vectors), ("basis", basis)):
        if columns.ndim != 2 or len(columns) != len(vectors):
            raise ValueError(
                f"{name} must have shape ({len(vectors)}, columns), got {columns.shape}"
            )
        gram = columns.T @ columns - np.eye(columns.shape[1])
        error = np.max(np.abs(gram), initial=0.0)
        if not error < 1e-8:
            raise ValueError(f"{name} must have orthonormal columns, they miss it by {error:.1e}")
    return np.sum((basis.T @ vectors) ** 2, axis=0)


class Chance(NamedTuple):
    """Overlap of given directions with a subspace drawn at random."""

    mean: float
    std: float


def chance_overlap(P: int, s: int, m: int = 1) -> Chance:
    r"""Mean overlap of m orthonormal vectors with a random subspace of dimension s out of P.

    For one vector the overlap has the beta distribution :math:`B(s/2, (P - s)/2)`. The mean over
    m vectors is :math:`{\rm Tr}(P_S P_M)/m` for a random projector, with the variance (second
    moments of the orthogonal group)

    .. math::
        \frac{2 s (P - s)(P - m)}{m P^2 (P - 1)(P + 2)} .

    Raises:
        ValueError: unless 1 <= s <= P, 1 <= m <= P and P >= 2.
    """
    if not (P >= 2 and 1 <= s <= P and 1 <= m <= P):
        raise ValueError(f"P >= 2 and 1 <= s, m <= P are needed, got P = {P}, s = {s}, m = {m}")
    variance = 2 * s * (P - s) * (P - m) / (m * P**2 * (P - 1) * (P + 2))
    return Chance(s / P, float(np.sqrt(variance)))


def decile_overlap(
    values: Float[np.ndarray, " P"], overlaps: Float[np.ndarray, " P"], parts: int = 10
) -> Float[np.ndarray, " parts"]:
    """Mean overlap of each tenth of the spectrum, from the smallest to the largest in size.

    Raises:
        ValueError: if the lengths differ, there are fewer eigenvalues than parts, or there is NaN.
    """
    values, overlaps = np.asarray(values, float), np.asarray(overlaps, float)
    if values.shape != overlaps.shape or values.ndim != 1 or not 1 <= parts <= len(values):
        raise ValueError(
            f"values and overlaps must be equally long, and at least {parts}, "
            f"got {values.shape} and {overlaps.shape}"
        )
    if not np.all(np.isfinite(values)) or not np.all(np.isfinite(overlaps)):
        raise ValueError("values and overlaps must be finite, got NaN or infinity")
    order = np.argsort(np.abs(values), kind="stable")
    return np.array([part.mean() for part in np.array_split(overlaps[order], parts)])


# Spectra without matrices ------------------------------------------------------------------------


class Spectrum(NamedTuple):
    r"""A spectral density as points with weights: :math:`\rho(z) = \sum_i w_i \delta(z - z_i)`.

    Attributes:
        nodes: one row a probe.
        weights: positive; each row sums to 1.
    """

    nodes: Float[np.ndarray, "probes steps"]
    weights: Float[np.ndarray, "probes steps"]

    def below(self, z: Float[np.ndarray, " m"]) -> Float[np.ndarray, "probes m"]:
        """Share of the density at most z, for each probe."""
        return np.sum(self.weights[:, :, None] * (self.nodes[:, :, None] <= z), axis=1)

    def blurred(self, z: Float[np.ndarray, " m"], width: float) -> Float[np.ndarray, " m"]:
        """The density on a grid, each point a Gaussian, mean over the probes.

        Raises:
            ValueError: if the width is not positive.
        """
        if not width > 0:
            raise ValueError(f"width must be positive, got {width}")
        u = (z - self.nodes[..., None]) / width
        bells = np.exp(-(u**2) / 2) / (width * np.sqrt(2 * np.pi))
        return np.mean(np.sum(self.weights[..., None] * bells, axis=1), axis=0)


def spectral_density(
    matvec: Callable[[Float[Array, " P"]], Float[Array, " P"]],
    P: int,
    *,
    probes: int = 4,
    steps: int = 60,
    project: Callable[[Float[Array, " P"]], Float[Array, " P"]] | None = None,
    reorthogonalise: bool = True,
    key: PRNGKeyArray,
) -> Spectrum:
    r"""Spectral density of a symmetric matrix that is only known by its products with vectors.

    Stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017): Gaussian probes, a tridiagonal
    matrix for each, its eigenvalues as nodes and the squared first components of its eigenvectors
    as weights. With a projector on a subspace S the probes lie in S, and the average is the
    density as seen from S, :math:`{\rm Tr}[P_S\,\delta(z - H)] / \dim S`.

    Args:
        matvec: product with the matrix; `jax.tree_util.Partial(hvp, loss, model)` keeps the data
            out of the compiled program.
        P: its size.
        probes: number of random vectors.
        steps: of the Lanczos iteration; features narrower than about the largest eigenvalue over
            the square of this number are not resolved.
        project: orthogonal projector on S; the whole space if left out.
        reorthogonalise: keep the Lanczos vectors orthogonal. Without, eigenvalues of the small
            matrix have copies; they share the weight of one, and the density stays right
            (Greenbaum 1989), at a time that grows with steps rather than with their square.
        key: random key of the probes.

    Raises:
        ValueError: if probes is not positive, steps is not between 1 and P, or a probe or a
            product is not finite.
    """
    if probes < 1 or not 1 <= steps <= P:
        raise ValueError(
            f"probes must be positive and steps between 1 and {P}, got {probes} and {steps}"
        )
    reortho = "full" if reorthogonalise else "none"
    nodes, weights = [], []
    for probe in jax.random.split(key, probes):
        v = jax.random.normal(probe, (P,), float)
        if project is not None:
            v = project(v)
        matrix = np.array(_tridiagonal(matvec, v / jnp.linalg.norm(v), steps, reortho), float)
        if not np.all(np.isfinite(matrix)):
            raise ValueError("matvec or project gave a value that is not finite")
        values, vectors = np.linalg.eigh(matrix)
        nodes.append(values)
        weights.append(vectors[0] ** 2)
    return Spectrum(np.stack(nodes), np.stack(weights))


@eqx.filter_jit
def _tridiagonal(
    matvec: Callable[[Float[Array, " P"]], Float[Array, " P"]],
    v: Float[Array, " P"],
    steps: int,
    reortho: str,
) -> Float[Array, "steps steps"]:
    lanczos = decomp.tridiag_sym(steps, reortho=reortho, custom_vjp=False)
    return jnp.asarray(lanczos(matvec, v).J_small)
