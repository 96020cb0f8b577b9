"""The published flow: coupling layers with a transformer and circular splines.

After Schebek et al. 2024 (Mach. Learn.: Sci. Technol. 5, 045045; arXiv 2406.12378) and their code
(github.com/maxschebek/flow_diagrams), written anew; comments say what is different. Meant for a
GPU. A coupling layer changes some coordinates of all particles, each by itself, and a network tells
from the others how: its Jacobian is triangular, with slopes of splines on the diagonal.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from dy33lib.flows.exact import check_state
from dy33lib.particles import Configs

SMALLEST = 1e-4  # part of the circle that a bin takes at least, and slope of a spline at least
UNITY = float(np.log(np.expm1(1 - SMALLEST)))  # softplus of it is the slope 1, less the smallest
TIMID = 0.02  # factor on the last weights, so that training begins next to the identity
# Coordinates as layers take them, those that stay first: x, y, z, and then yz, xy, zx.
ORDERS = np.array([[[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[1, 2, 0], [0, 1, 2], [2, 0, 1]]])


def _knots(parameters):
    """Places of the knots before and after, and slopes there, each of length K + 1."""
    K = parameters.shape[-1] // 3

    def edges(sizes):
        sizes = SMALLEST + (1 - K * SMALLEST) * jax.nn.softmax(sizes, axis=-1)
        inner = jnp.cumsum(sizes, axis=-1)[..., :-1]
        end = jnp.zeros_like(inner[..., :1])
        return jnp.concatenate([end, inner, end + 1.0], axis=-1)

    slopes = SMALLEST + jax.nn.softplus(parameters[..., 2 * K :] + UNITY)
    # The same slope at both ends makes the spline one of the circle.
    slopes = jnp.concatenate([slopes, slopes[..., :1]], axis=-1)
    return edges(parameters[..., :K]), edges(parameters[..., K : 2 * K]), slopes


def _bin(at, edges, knots):
    """Values of each of the knots at both ends of the bin of these edges that holds `at`."""
    above = at[..., None] >= edges[..., 1:-1]
    none = jnp.zeros_like(above[..., :1])
    here = jnp.concatenate([~none, above], axis=-1) & ~jnp.concatenate([above, none], axis=-1)

    def pick(values):  # a sum is faster than a look-up, and so is its gradient
        return jnp.sum(jnp.where(here, values, 0.0), axis=-1)

    return [(pick(v[..., :-1]), pick(v[..., 1:])) for v in knots]


def circular_spline(
    x: Float[Array, "*S"], parameters: Float[Array, "*S M"], inverse: bool = False
) -> tuple[Float[Array, "*S"], Float[Array, "*S"]]:
    """Rational-quadratic spline of the circle onto itself, 0 to 0, and the logarithm of its slope.

    With K bins of widths w and heights h, slopes d at the knots, and s = h / w, in a bin

        y = y_0 + h (s q^2 + d_0 q (1 - q)) / (s + (d_0 + d_1 - 2 s) q (1 - q)),  q = (x - x_0) / w

    (Durkan et al. 2019, section 3.1; the same slope at both ends of the circle: Rezende et al.
    2020). Zero parameters give the identity.

    Args:
        x: places, from 0 to 1.
        parameters: K of the widths, K of the heights, K of the slopes, M = 3 K; any numbers.
        inverse: the way back.

    Raises:
        ValueError: if there are not three parameters for each of two or more bins.
    """
    M = parameters.shape[-1]
    if M % 3 or M < 6:
        raise ValueError(f"parameters must be 3 K, of K = 2 bins or more, got {M}")
    knots = _knots(parameters)
    (x_0, x_1), (y_0, y_1), (d_0, d_1) = _bin(x, knots[int(inverse)], knots)
    w, h = x_1 - x_0, y_1 - y_0
    s = h / w
    excess = d_0 + d_1 - 2 * s
    if inverse:  # a q^2 + b q + c = 0; of two forms of the root the one that does not cancel
        part = jnp.clip((x - y_0) / h, 0, 1)
        b, c = d_0 - excess * part, -s * part
        a = s - b
        root = jnp.sqrt(jnp.maximum(b * b - 4 * a * c, SMALLEST**4))
        top = jnp.where(b >= 0, -2 * c, root - b)
        q = jnp.clip(top / jnp.where(b >= 0, b + root, 2 * a), 0, 1)
    else:
        q = jnp.clip((x - x_0) / w, 0, 1)
    both = q * (1 - q)
    below = s + excess * both
    slope = jnp.log(d_1 * q * q + 2 * s * both + d_0 * (1 - q) ** 2) + 2 * jnp.log(s / below)
    if inverse:
        return x_0 + w * q, -slope
    return y_0 + h * (s * q * q + d_0 * both) / below, slope


def _drawn(shapes, key: Array):
    """Weights as Equinox draws them, but in one go: so many draws would compile for 18 s."""

    def bounds(node):
        linear = isinstance(node, eqx.nn.Linear)
        return jax.tree.map(lambda _: node.weight.shape[-1] ** -0.5, node) if linear else node

    limits = jax.tree.map(bounds, shapes, is_leaf=lambda n: isinstance(n, eqx.nn.Linear))
    leaves, tree = jax.tree.flatten(shapes)
    sizes = [x.size if isinstance(x, jax.ShapeDtypeStruct) else 0 for x in leaves]
    flat = np.asarray(jax.random.uniform(key, (sum(sizes),), minval=-1, maxval=1))
    drawn = np.split(flat, np.cumsum(sizes)[:-1])
    for i, limit in enumerate(tree.flatten_up_to(limits)):
        if sizes[i]:
            leaves[i] = jnp.asarray(limit * drawn[i].reshape(leaves[i].shape), leaves[i].dtype)
    return jax.tree.unflatten(tree, leaves)


def _timid(network: eqx.nn.MLP) -> eqx.nn.MLP:
    """With small weights in the last layer."""
    last = jax.tree.map(lambda w: TIMID * w, network.layers[-1])
    return eqx.tree_at(lambda n: n.layers[-1], network, last)


class Block(eqx.Module):
    """A block of a transformer: each particle looks at all, then changes by itself.

    The norm takes all particles and channels together, as published. The authors' has weights for
    each particle besides, and depends on their order therefore; ours has none.
    """

    norm: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    network: eqx.nn.MLP

    def __init__(self, N: int, width: int, heads: int, key: Array):
        k1, k2 = jax.random.split(key)
        self.norm = eqx.nn.LayerNorm((N, width), use_weight=False, use_bias=False)
        self.attention = eqx.nn.MultiheadAttention(
            heads, width, use_key_bias=True, use_output_bias=True, key=k1
        )
        self.network = eqx.nn.MLP(width, width, width, 2, key=k2)

    def __call__(self, h: Float[Array, "N width"]) -> Float[Array, "N width"]:
        """Channels of the particles after the block."""
        h = self.norm(h)
        h = self.norm(h + self.attention(h, h, h))
        return h + jax.vmap(self.network)(h)


class Coupling(eqx.Module):
    """A layer that changes the last coordinates, told by the first `fixed` ones.

    Features of those and the condition are embedded, go through the blocks, and become parameters
    of splines. Where the circle of each changed coordinate begins depends on T and P.
    """

    embedding: eqx.nn.MLP
    blocks: list[Block]
    spline: eqx.nn.MLP
    shift: eqx.nn.MLP
    fixed: int = eqx.field(static=True)
    frequencies: int = eqx.field(static=True)

    def __init__(self, fixed, N, width, heads, blocks, bins, frequencies, key):
        k1, k2, k3, k4 = jax.random.split(key, 4)
        self.embedding = eqx.nn.MLP(2 * frequencies * fixed + 3, width, width, 2, key=k1)
        self.blocks = [Block(N, width, heads, k) for k in jax.random.split(k2, blocks)]
        self.spline = eqx.nn.MLP(width, (3 - fixed) * 3 * bins, width, 2, key=k3)
        self.shift = eqx.nn.MLP(2, 3 - fixed, 4, 1, key=k4)
        self.fixed, self.frequencies = fixed, frequencies

    def __call__(
        self, x: Float[Array, "3 N"], condition: Float[Array, " 3"], back: bool
    ) -> tuple[Float[Array, "3 N"], Float[Array, ""]]:
        """Coordinates of one configuration after the layer, and the logarithm of the Jacobian.

        The first particle is at the origin, and stays. The condition is scale of the box, T, P.
        """
        fixed, changed, N = x[: self.fixed], x[self.fixed :, 1:], x.shape[1]
        waves = 2 * np.pi * jnp.arange(1, self.frequencies + 1, dtype=x.dtype)
        angles = (waves[None, :, None] * fixed[:, None]).reshape(-1, N)
        told = jnp.broadcast_to(condition[:, None], (3, N))
        features = jnp.concatenate([jnp.cos(angles), jnp.sin(angles), told])
        h = jax.vmap(self.embedding, in_axes=1)(features)
        for block in self.blocks:
            h = block(h)
        parameters = jax.vmap(self.spline)(h[1:]).reshape(N - 1, 3 - self.fixed, -1)
        # The authors shift the frame, the first particle with it, and leave it there. Shifted back,
        # the first particle is at the origin in every layer.
        shift = self.shift(condition[1:])[:, None]
        moved, slopes = circular_spline((changed - shift) % 1, jnp.moveaxis(parameters, 0, 1), back)
        return x.at[self.fixed :, 1:].set((moved + shift) % 1), jnp.sum(slopes)


class CouplingFlow(eqx.Module):
    """The published flow, with the calls of :class:`~dy33lib.flows.layers.ConditionalFlow`.

    It commutes with translations, and with permutations of all particles but the first, which stays
    where it is. The reference is a state as any other: the map is only about the identity there.

    Attributes:
        box: from T and P to a and b of the scale of the box, (1 + a) scale + b.
        couplings: layers with one and with two fixed coordinates, rounds x 3 of each kind; their
            weights are stacked, so that a kind is compiled once.
        edge: mean cube root of the volume in the reference state, unit of the scale; not trained.
        particles: their number; the layers' norm takes all together.
        T_max: unit of temperature; and P_max that of pressure.
    """

    box: eqx.nn.MLP
    couplings: tuple[Coupling, Coupling]
    edge: Float[Array, ""]
    particles: int = eqx.field(static=True)
    T_max: float = eqx.field(static=True)
    P_max: float = eqx.field(static=True)

    def __init__(
        self, reference: Configs, T0: float, P0: float, *, rounds: int = 1, blocks: int = 1,
        width: int = 32, heads: int = 1, bins: int = 16, frequencies: int = 8,
        T_max: float = 1.6, P_max: float = 20.0, key: Array,
    ):  # fmt: skip
        """Make a flow next to the identity.

        Args:
            reference: configurations of the reference state, for the unit of the scale.
            T0: its temperature. Only checked, as P0 is: the published flow is not told.
            P0: its pressure.
            rounds: how often the six layers come.
            blocks: of the transformer in each layer.
            width: of hidden layers; channels of a particle.
            heads: of the attention; they divide the width.
            bins: of the splines.
            frequencies: of the features, 1 to this many turns over the box.
            T_max: the highest temperature the flow is for.
            P_max: the highest pressure.
            key: for the weights.

        Raises:
            ValueError: if a temperature or pressure is not positive and finite, a number is too
                small or bins are more than 1000, heads do not divide the width; if there are fewer
                than four particles, or boxes of different shapes.
        """
        check_state(T0, P0)
        check_state(T_max, P_max)
        N, L = reference.s.shape[1], np.asarray(reference.L, float).reshape(3, -1)
        for name, value, least in (
            ("rounds", rounds, 1), ("blocks", blocks, 1), ("width", width, 1), ("heads", heads, 1),
            ("frequencies", frequencies, 1), ("reference's number of particles", N, 4),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 2 <= bins <= 1000:
            raise ValueError(f"bins must be from 2 to 1000, got {bins}")
        if width % heads:
            raise ValueError(f"heads must divide the width {width}, got {heads}")
        edges = np.cbrt(np.prod(L, axis=0))
        if not np.ptp(L / edges, axis=1).max() < 1e-5:
            raise ValueError("reference must have boxes of one shape")

        def layer(key, fixed):
            return Coupling(fixed, N, width, heads, blocks, bins, frequencies, key)

        def networks(key):
            many = eqx.filter_vmap(eqx.filter_vmap(layer, in_axes=(0, None)), in_axes=(0, None))
            keys = jax.random.split(key, (rounds, 3))
            return eqx.nn.MLP(2, 2, 64, 6, key=key), many(keys, 1), many(keys, 2)

        box, *couplings = _drawn(eqx.filter_eval_shape(networks, key), key)
        one, two = (eqx.tree_at(lambda c: c.spline, c, _timid(c.spline)) for c in couplings)
        self.box, self.couplings = _timid(box), (one, two)
        self.edge = jnp.asarray(edges.mean(), jnp.float32)
        self.particles, self.T_max, self.P_max = N, T_max, P_max

    def _scale(self, L):
        return jnp.cbrt(jnp.prod(L, axis=0)) / jax.lax.stop_gradient(self.edge)

    def _scaled(self, L, state, back: bool):
        """Edges after the scaling, and ln dV'/dV; nan if a box would be turned inside out."""
        a, b = jax.vmap(self.box, 1, 1)(state)
        scale = self._scale(L)
        ratio = ((scale - b) / (1 + a) if back else (1 + a) * scale + b) / scale
        # The measure is dV, and V goes with scale^3: dV'/dV = ratio^2 dscale'/dscale. The authors
        # leave out the first factor, as if the measure were that of the scale.
        slope = -jnp.log1p(a) if back else jnp.log1p(a)
        return L * ratio[None], slope + 2 * jnp.log(ratio)

    def _moved(self, s, scale, state, back: bool):
        """Positions over the edges after all couplings, and the logarithm of their Jacobian."""
        weights, rest = eqx.partition(self.couplings, eqx.is_array)

        def one(x, condition):
            def turn(carry, weights):
                for i in (1, 0) if back else (0, 1):
                    layer = jax.checkpoint(partial(through, rest[i]), prevent_cse=False)
                    layers = weights[i], jnp.asarray(ORDERS[i])
                    carry, _ = jax.lax.scan(layer, carry, layers, reverse=back)
                return carry, None

            def through(rest, carry, given):
                (x, total), (weights, order) = carry, given
                moved, more = eqx.combine(weights, rest)(x[order], condition, back)
                return (x.at[order].set(moved), total + more), None

            return jax.lax.scan(turn, (x, jnp.zeros((), x.dtype)), weights, reverse=back)[0]

        before = (s - s[:, :1]) % 1
        after, log_det = jax.vmap(one, -1, -1)(before, jnp.concatenate([scale[None], state]))
        change = after - before
        return s + change - jnp.round(change), log_det  # in the image in which particles came

    @eqx.filter_jit
    def _mapped(self, s, L, T, P, back: bool):
        """The map, or the way back, once values are checked; weights in the precision of s."""
        flow = jax.tree.map(lambda w: w.astype(s.dtype) if eqx.is_inexact_array(w) else w, self)
        state = jnp.stack([T / self.T_max, P / self.P_max]).astype(s.dtype)
        if back:
            s, more = flow._moved(s, flow._scale(L), state, back)
            L, log_det = flow._scaled(L, state, back)
        else:
            L, log_det = flow._scaled(L, state, back)
            s, more = flow._moved(s, flow._scale(L), state, back)  # told the new scale
        return s, L, log_det + more

    def _check(self, s, T, P) -> None:
        if not (isinstance(T, Tracer) or isinstance(P, Tracer)):
            check_state(T, P)
        if s.shape[1] != self.particles:
            raise ValueError(f"s must have {self.particles} particles, got {s.shape[1]}")

    def __call__(
        self, s: Float[Array, "3 N B"], L: Float[Array, "3 B"],
        T: Float[Array, " B"], P: Float[Array, " B"],
    ) -> tuple[Float[Array, "3 N B"], Float[Array, "3 B"], Float[Array, " B"]]:  # fmt: skip
        """Configurations mapped to T and P of each, and the logarithm of the Jacobian of (s, V).

        Raises:
            ValueError: if T or P is known and not positive and finite, or particles are not as many
                as in the reference.
        """
        self._check(s, T, P)
        return self._mapped(s, L, T, P, False)

    def inverse(
        self, s: Float[Array, "3 N B"], L: Float[Array, "3 B"],
        T: Float[Array, " B"], P: Float[Array, " B"],
    ) -> tuple[Float[Array, "3 N B"], Float[Array, "3 B"], Float[Array, " B"]]:  # fmt: skip
        """Back to the reference state, and the logarithm of the Jacobian on the way."""
        self._check(s, T, P)
        return self._mapped(s, L, T, P, True)
