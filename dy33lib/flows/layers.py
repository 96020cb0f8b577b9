"""Maps of configurations with known Jacobians, told temperature and pressure.

A flow maps configurations of the reference state to another state. It acts on volumes first, at
constant s = r / L, and on positions then. Both layers get their parameters from one small network
of the condition, less its value at the reference: there the flow is the identity exactly.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from dy33lib.flows.exact import check_state
from dy33lib.particles import Configs, lj_energy, sum_over_pairs

REACH = 4.0  # square of the distance, over (V/N)^(2/3), from where pairs do not feel each other
NEAR = 0.64  # the same, for the closest pairs that the polynomials are made for
UNIT = 0.1  # of the coefficients of the profile: networks learn numbers of order one


class Condition(eqx.Module):
    """Parameters from temperature and pressure; zero at the reference state.

    Attributes:
        network: of ln(T/T0) and P/T - P0/T0, on convenient scales.
        T0: temperature of the reference.
        P0: its pressure.
    """

    network: eqx.nn.MLP
    T0: float = eqx.field(static=True)
    P0: float = eqx.field(static=True)

    def __init__(
        self, size: int, T0: float, P0: float, *, width: int = 32, scale: float = 0.01, key: Array
    ):
        """Make a network.

        Args:
            size: number of parameters.
            T0: temperature of the reference.
            P0: its pressure.
            width: of two hidden layers.
            scale: of the weights of the last layer.
            key: for the weights.

        Raises:
            ValueError: if T0 or P0 is not positive and finite, or a size not positive.
        """
        check_state(T0, P0)
        if size < 1 or width < 1:
            raise ValueError(f"size and width must be at least 1, got {size} and {width}")
        network = eqx.nn.MLP(2, size, width, 2, jax.nn.silu, dtype=jnp.float32, key=key)
        last = network.layers[-1].weight
        self.network = eqx.tree_at(lambda n: n.layers[-1].weight, network, scale * last)
        self.T0, self.P0 = T0, P0

    def __call__(self, T: Float[Array, " B"], P: Float[Array, " B"]) -> Float[Array, "size B"]:
        """Parameters of each replica."""
        kind = self.network.layers[-1].weight.dtype
        c = jnp.stack([jnp.log(T / self.T0) / 0.3, (P / T - self.P0 / self.T0) / 5]).astype(kind)
        network = jax.vmap(self.network, in_axes=1, out_axes=1)
        return network(c) - network(jnp.zeros_like(c))  # both alike, so that nothing stays nothing


def stretched(
    L: Float[Array, "3 B"], shift: Float[Array, " B"], spread: Float[Array, " B"], middle
) -> tuple[Float[Array, "3 B"], Float[Array, " B"]]:
    """Volumes ln V' = middle + shift + exp(spread) (ln V - middle), and ln dV'/dV.

    Args:
        L: edges; all three are stretched alike.
        shift: of ln V.
        spread: logarithm of the factor of its deviations.
        middle: about the mean of ln V in the reference state.
    """
    ln_V = jnp.sum(jnp.log(L), axis=0)
    new = middle + shift + jnp.exp(spread) * (ln_V - middle)
    return L * jnp.exp((new - ln_V) / 3)[None], spread + new - ln_V


def _chebyshev(q, size: int):
    """Chebyshev polynomials in 1/q, their first and second slopes in it, and its unit."""
    unit = 2 / (1 / NEAR - 1 / REACH)
    z = (1 / q - 1 / REACH) * unit - 1
    one, none = jnp.ones_like(z), jnp.zeros_like(z)
    value, slope, bend = [one, z], [none, one], [none, none]
    for k in range(2, size):
        value.append(2 * z * value[k - 1] - value[k - 2])
        slope.append(2 * value[k - 1] + 2 * z * slope[k - 1] - slope[k - 2])
        bend.append(4 * slope[k - 1] + 2 * z * bend[k - 1] - bend[k - 2])
    return value, slope, bend, unit


def _weighted(a, values):
    return sum((a[k] * values[k] for k in range(1, len(values))), a[0] * values[0])


def _profile(q, a):
    """Profile phi and its slope in q; a: coefficients of Chebyshev polynomials in 1/q, K x B."""
    value, slope, _, unit = _chebyshev(q, a.shape[0])
    rest = jnp.maximum(1 - q / REACH, 0)  # beyond the reach all is zero
    total = _weighted(a, value)
    bent = -2 / REACH * rest * total - rest**2 * _weighted(a, slope) * unit / (q * q)
    return rest**2 * total, bent


def _profile_slopes(q, a, w, h):
    """Of w phi + 2 h (3 phi + 2 q phi'): slopes in w, q, and, summed over pairs, in a."""
    value, slope, bend, unit = _chebyshev(q, a.shape[0])
    rest = jnp.maximum(1 - q / REACH, 0)
    first, second = -unit / (q * q), 2 * unit / q**3  # of the variable of the polynomials, in q
    fall = -2 / REACH * rest  # slope of rest^2
    curve = jnp.where(rest > 0, 2 / REACH**2, 0.0).astype(q.dtype)
    total, rise = _weighted(a, value), _weighted(a, slope)
    phi = rest**2 * total
    d_phi = fall * total + rest**2 * rise * first
    dd_phi = curve * total + 2 * fall * rise * first
    dd_phi = dd_phi + rest**2 * (_weighted(a, bend) * first**2 + rise * second)
    by_value = rest**2 * (w + 6 * h) + 4 * h * q * fall
    by_slope = 4 * h * q * rest**2 * first
    by_a = [jnp.sum(by_value * v + by_slope * r, 0) for v, r in zip(value, slope, strict=True)]
    return phi, w * d_phi + h * (10 * d_phi + 4 * q * dd_phi), jnp.stack(by_a)


@jax.custom_vjp
def velocity(
    x: Float[Array, "3 N B"], box: Float[Array, " 3"], a: Float[Array, "K B"]
) -> tuple[Float[Array, "3 N B"], Float[Array, " B"]]:
    """Velocities along the distances of pairs, the sum over j of phi(q) x_ij, and divergence.

    They commute with translations, permutations, and the symmetries of the box, and leave the
    centre of mass where it is. The divergence is a sum over the same pairs, of twice 3 phi +
    2 q phi', with q the squared distance. Its gradient is written out, which takes a third of the
    time of automatic differentiation; the box has none.

    Args:
        x: positions over (V/N)^(1/3).
        box: its edges, alike.
        a: coefficients of the profile phi.
    """

    def term(d, _):
        d = d * box[:, None, None]
        q = jnp.sum(d * d, axis=0)
        phi, slope = _profile(q, a[:, None])
        return phi[None] * d, 2 * jnp.sum(3 * phi + 2 * q * slope, axis=0)

    return sum_over_pairs(x / box[:, None, None], term, jnp.zeros_like(x[0, 0]))


def _velocity_forward(x, box, a):
    return velocity(x, box, a), (x, box, a)


def _velocity_backward(kept, slopes):
    x, box, a = kept
    g, h = slopes
    twice = jnp.concatenate([g, g], axis=1)

    def term(d, k):
        d = d * box[:, None, None]
        apart = g - jax.lax.dynamic_slice_in_dim(twice, k, g.shape[1], axis=1)
        q, w = jnp.sum(d * d, axis=0), jnp.sum(apart * d, axis=0)
        phi, by_q, by_a = _profile_slopes(q, a[:, None], w, h[None])
        return phi[None] * apart + 2 * by_q[None] * d, by_a

    by_x, by_a = sum_over_pairs(x / box[:, None, None], term, jnp.zeros_like(a))
    return by_x, jnp.zeros_like(box), by_a


velocity.defvjp(_velocity_forward, _velocity_backward)


def drifted(
    x: Float[Array, "3 N B"], box: Float[Array, " 3"], a: Float[Array, "K B"], steps: int
) -> tuple[Float[Array, "3 N B"], Float[Array, " B"]]:
    """Positions after a unit of time with `velocity`, and the logarithm of their Jacobian.

    Args:
        x: positions over (V/N)^(1/3).
        box: its edges.
        a: coefficients of the profile; with the opposite sign the way back.
        steps: of Runge and Kutta's fourth order, for positions and divergence alike.
    """
    h = 1.0 / steps

    def step(carry, _):
        x, total = carry
        v1, d1 = velocity(x, box, a)
        v2, d2 = velocity(x + 0.5 * h * v1, box, a)
        v3, d3 = velocity(x + 0.5 * h * v2, box, a)
        v4, d4 = velocity(x + h * v3, box, a)
        x = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
        return (x, total + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)), None

    (x, total), _ = jax.lax.scan(step, (x, jnp.zeros_like(x[0, 0])), None, length=steps)
    return x, total


class ConditionalFlow(eqx.Module):
    """From configurations of the reference state to another temperature and pressure.

    Attributes:
        condition: gives shift and spread of ln V, then the coefficients of the profile.
        middle: about the mean of ln V in the reference state.
        shape: edges of the box over the cube root of its volume.
        steps: of the integration of positions; 0 leaves them alone.
    """

    condition: Condition
    middle: Float[Array, ""]
    shape: tuple[float, float, float] = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(
        self, reference: Configs, T0: float, P0: float, *, terms: int = 8, steps: int = 1,
        width: int = 32, key: Array,
    ):  # fmt: skip
        """Make a flow that is the identity at the reference, and next to it elsewhere.

        Args:
            reference: configurations of the reference state, for the mean of ln V and the shape.
            T0: its temperature.
            P0: its pressure.
            terms: of the profile; 0 for a map of volumes only.
            steps: of the integration.
            width: of the network of the condition.
            key: for its weights.

        Raises:
            ValueError: if there are fewer than 2 terms (but not 0), no steps, fewer than four
                particles, boxes of different shapes; as in :class:`Condition`.
        """
        if terms == 1 or terms < 0:
            raise ValueError(f"terms must be 0 or at least 2, got {terms}")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        if reference.s.shape[1] < 4:
            raise ValueError(f"reference must have four particles, got {reference.s.shape[1]}")
        L = np.asarray(reference.L, float).reshape(3, -1)
        V = np.prod(L, axis=0)
        shapes = L / np.cbrt(V)
        if not np.ptp(shapes, axis=1).max() < 1e-5:
            raise ValueError("reference must have boxes of one shape")
        if np.sqrt(REACH) > 0.5 * shapes.min() * np.cbrt(reference.s.shape[1]):
            raise ValueError(f"reference must have boxes beyond twice the reach {REACH**0.5}")
        self.condition = Condition(2 + terms, T0, P0, width=width, key=key)
        # An array, and shapes rounded: flows of all references then share one compiled program.
        self.middle = jnp.asarray(np.log(V).mean(), jnp.float32)
        self.shape = tuple(np.round(shapes.mean(axis=1), 5).tolist())
        self.steps = steps if terms else 0

    def _middle(self, L):
        return jax.lax.stop_gradient(self.middle).astype(L.dtype)  # not to be trained

    def _move(self, s, a):
        N = s.shape[1]
        box = jnp.asarray(self.shape, s.dtype) * N ** (1 / 3)
        x = s * box[:, None, None]
        moved, log_det = drifted(x, box, a, self.steps)
        return s + (moved - x) / box[:, None, None], log_det

    def __call__(
        self, s: Float[Array, "3 N B"], L: Float[Array, "3 B"],
        T: Float[Array, " B"], P: Float[Array, " B"],
    ) -> tuple[Float[Array, "3 N B"], Float[Array, "3 B"], Float[Array, " B"]]:  # fmt: skip
        """Configurations mapped to T and P, and the logarithm of the Jacobian on the way.

        Args:
            s: positions over the edges.
            L: edges.
            T: temperature wanted of each replica.
            P: pressure wanted.
        """
        a = self.condition(T, P).astype(s.dtype)
        L, log_det = stretched(L, a[0], a[1], self._middle(L))
        if self.steps:
            s, more = self._move(s, UNIT * a[2:])
            log_det = log_det + more
        return s, L, log_det

    def inverse(
        self, s: Float[Array, "3 N B"], L: Float[Array, "3 B"],
        T: Float[Array, " B"], P: Float[Array, " B"],
    ) -> tuple[Float[Array, "3 N B"], Float[Array, "3 B"], Float[Array, " B"]]:  # fmt: skip
        """Back to the reference state, and the logarithm of the Jacobian on the way."""
        a = self.condition(T, P).astype(s.dtype)
        log_det = jnp.zeros_like(L[0])
        if self.steps:
            s, log_det = self._move(s, -UNIT * a[2:])
        L, more = stretched(L, -a[0] * jnp.exp(-a[1]), -a[1], self._middle(L))
        return s, L, log_det + more


class Mapped(NamedTuple):
    """Configurations of the reference after a map: all that their weights are made of.

    Attributes:
        before: reduced energy u in the reference state, with u = (U + P V) / T - N ln V.
        U: energies after the map.
        V: volumes after it.
        log_det: logarithms of the Jacobian.
        N: particles.
    """

    before: Float[Array, "..."]
    U: Float[Array, "..."]
    V: Float[Array, "..."]
    log_det: Float[Array, "..."]
    N: int

    def log_weights(self, T, P) -> Float[Array, "..."]:
        """Logarithms of the weights in the ensemble at T and P, whatever state the map aimed at.

        The density of (s, V) at constant pressure is exp(-u), and the weight of a configuration
        exp(u - u') times the Jacobian. Its mean is exp(-(G - G0)), free energies over their k_B T.

        Args:
            T: temperature, one or one of each configuration.
            P: pressure.
        """
        return self.before - (self.U + P * self.V) / T + self.N * jnp.log(self.V) + self.log_det


def mapped(
    flow: Callable | None,
    s: Float[Array, "3 N B"],
    L: Float[Array, "3 B"],
    start: tuple[float, float],
    T: Float[Array, " B"],
    P: Float[Array, " B"],
    energy: Callable = lj_energy,
) -> Mapped:
    """Map configurations of the reference to T and P.

    Args:
        flow: the map, as a :class:`ConditionalFlow`; None for none.
        s: positions over the edges, of the reference state.
        L: edges.
        start: temperature and pressure of the reference.
        T: temperature wanted of each replica.
        P: pressure wanted.
        energy: energies by s and L; its gradient should be cheap.

    Raises:
        ValueError: if a temperature or pressure is not positive and finite; as the energy does.
    """
    check_state(*start)
    if not isinstance(T, Tracer) and not isinstance(P, Tracer):
        check_state(np.asarray(T), np.asarray(P))
    U, V, N = energy(s, L), jnp.prod(L, axis=0), s.shape[1]
    before = (U + start[1] * V) / start[0] - N * jnp.log(V)
    if flow is None:
        return Mapped(before, U, V, jnp.zeros_like(U), N)
    s, L, log_det = flow(s, L, T, P)
    return Mapped(before, energy(s, L), jnp.prod(L, axis=0), log_det, N)


def log_weights(
    flow: Callable | None, s, L, start: tuple[float, float], T, P, energy: Callable = lj_energy
) -> Float[Array, " B"]:
    """Weights of mapped configurations where the map aimed at, see :class:`Mapped`.

    Args:
        flow: as in :func:`mapped`, and so are the others.
        s: positions over the edges.
        L: edges.
        start: temperature and pressure of the reference.
        T: temperature wanted of each replica.
        P: pressure wanted.
        energy: energies by s and L; its gradient should be cheap.

    Raises:
        ValueError: as :func:`mapped` does.
    """
    return mapped(flow, s, L, start, T, P, energy).log_weights(T, P)


def log_weights_back(
    flow, s, L, start: tuple[float, float], T, P, energy: Callable = lj_energy
) -> Float[Array, " B"]:
    """Weights of configurations of another state that are mapped back, in the reference state.

    Args:
        flow: a :class:`ConditionalFlow`.
        s: positions over the edges, at T and P.
        L: edges.
        start: temperature and pressure of the reference.
        T: temperature of the configurations.
        P: their pressure.
        energy: energies by s and L.

    Raises:
        ValueError: as :func:`mapped` does.
    """
    check_state(*start)

    def reduced(s, L, T, P):
        V = jnp.prod(L, axis=0)
        return (energy(s, L) + P * V) / T - s.shape[1] * jnp.log(V)

    T0, P0 = (jnp.full_like(L[0], value) for value in start)
    back, edges, log_det = flow.inverse(s, L, T, P)
    return reduced(s, L, T, P) - reduced(back, edges, T0, P0) + log_det
