"""Information of a distribution that is known, and its parts.

The distribution is an array p whose axes are the sources and, last, the target. All results are in
bits. Everything can be differentiated.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from dy33lib.pid.lattices import lattice


def mutual_information(p: Float[Array, "..."], subset: tuple[int, ...]) -> Float[Array, ""]:
    """Information that some sources taken together hold about the target, in bits.

    Args:
        p: probabilities, one axis a source, the target last.
        subset: which sources, counted from 1.

    Raises:
        ValueError: as in :func:`.pid`, or if the subset is empty or names no source.
    """
    n = _sources(p)
    if not subset or not set(subset) <= set(range(1, n + 1)):
        raise ValueError(f"subset must name some of the sources 1 to {n}, got {subset}")
    joint = p.sum(axis=tuple(i for i in range(n) if i + 1 not in subset))
    ours = joint.sum(axis=-1, keepdims=True)
    target = joint.sum(axis=tuple(range(joint.ndim - 1)), keepdims=True)
    return jnp.sum(joint * _log2(joint, ours * target))


def i_sx(p: Float[Array, "..."]) -> Float[Array, " A"]:
    r"""Redundancy by shared exclusions of every antichain, in bits.

    .. math:: I_\alpha = \sum_{s,t} p(s, t)\,\log_2
        \frac{P(t, \bigcup_{a\in\alpha} \{S_a = s_a\})}{P(t)\,P(\bigcup_{a\in\alpha} \{S_a = s_a\})}

    What is shared is the exclusion of all outcomes that none of the sets of α is compatible with
    (Makkeh, Gutknecht and Wibral 2021, PRE 103, 032149). It may be negative.

    Raises:
        ValueError: as in :func:`.pid`.
    """
    return _redundancies(p, _sources(p))


@partial(jax.jit, static_argnums=1)
def _redundancies(p: Float[Array, "..."], n: int) -> Float[Array, " A"]:
    target = p.sum(axis=tuple(range(n)), keepdims=True)[None]
    with_target = _unions(p, n)
    alone = with_target.sum(axis=-1, keepdims=True)
    return jnp.sum(
        p[None] * _log2(with_target, alone * target, where=p[None] > 0), axis=tuple(range(1, n + 2))
    )


def pid(p: Float[Array, "..."]) -> Float[Array, " A"]:
    """Atoms of the information that the sources hold about the target, in bits.

    The redundancies :func:`.i_sx`, inverted on the lattice: the atoms at and below an antichain
    add up to its redundancy, so all of them add up to the mutual information.

    Args:
        p: probabilities, one axis a source (two to four), the target last.

    Returns:
        The atoms, in the order of :func:`.antichains`.

    Raises:
        ValueError: if p has fewer than three or more than five axes, an entry is negative or not
            finite, or the sum differs from one by more than a millionth.
    """
    redundancy = i_sx(p)
    return jnp.asarray(lattice(p.ndim - 1).moebius, redundancy.dtype) @ redundancy


def _sources(p: Float[Array, "..."]) -> int:
    if p.ndim not in (3, 4, 5):
        raise ValueError(f"p must have 2 to 4 sources and the target as axes, got shape {p.shape}")
    if not isinstance(p, Tracer):  # a traced array has no values to look at
        if not (np.all(np.isfinite(p)) and np.all(np.asarray(p) >= 0)):
            raise ValueError(
                f"p must be finite and not negative, got {float(np.asarray(p).min()):g}"
            )
        if abs(float(np.asarray(p).sum()) - 1) > 1e-6:
            raise ValueError(f"p must sum to 1, got {float(np.asarray(p).sum()):.9g}")
    return p.ndim - 1


def _unions(p: Float[Array, "..."], n: int) -> Float[Array, "A ..."]:
    """P(t, at least one set of α agrees with s), for all s and t."""
    grid = lattice(n)
    outside = [tuple(i for i in range(n) if i + 1 not in a) for a in grid.subsets]
    marginals = [jnp.broadcast_to(p.sum(axis=o, keepdims=True), p.shape) for o in outside]
    return jnp.tensordot(jnp.asarray(grid.union, p.dtype), jnp.stack(marginals), axes=1)


def _log2(
    above: Float[Array, "..."], below: Float[Array, "..."], where: Array | None = None
) -> Float[Array, "..."]:
    """log2(above / below), and 0 with derivative 0 where there is no probability."""
    there = above > 0 if where is None else where
    return jnp.where(there, jnp.log2(jnp.where(there, above, 1) / jnp.where(there, below, 1)), 0)
