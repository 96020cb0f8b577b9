"""Autoregressive networks that draw configurations site by site, with exactly known weights.

A site sees the *frontier*, the L sites visited last, and the *first row*, with which bonds close
over the boundary; besides, how many bonds are satisfied so far, and a latent number z. For weights
that depend on nothing but the energy these are a sufficient statistic of the past (a site further
back has no bond left to close), so nothing is lost.

The symmetric network knows colours by where they occur, not by name: one function gives a logit to
each colour of frontier and first row. Colours that occur in neither are alike and share one logit,
so that the cost does not depend on their number q. The plain network has an output for each colour.
"""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dy33lib.multicanonical.potts import check_size

PLACE = 8  # numbers that the network learns for each site


class Site(NamedTuple):
    """What one site sees; all sites together have one more axis, row by row.

    Attributes:
        seen: V = 2L sites, of the frontier, then of the first row, from this column on; -1: none.
        bonds: by how many bonds it is joined to each of them.
        left: share of all bonds that are not decided yet.
    """

    seen: Int[Array, " V"]
    bonds: Float[Array, " V"]
    left: Float[Array, ""]


def lattice_sites(L: int) -> Site:
    """All N sites."""
    seen, bonds = np.full((L * L, 2 * L), -1), np.zeros((L * L, 2 * L), np.float32)
    for i in range(L * L):
        r, c = divmod(i, L)
        for step in range(L):
            column = (c + step) % L
            row = r if column < c else r - 1
            seen[i, step] = row * L + column if row >= 0 else -1
            seen[i, L + step] = column if r > 0 else -1
        bonds[i, 0] += r > 0  # above
        bonds[i, L - 1] += c > 0  # to the left
        bonds[i, 1] += c == L - 1  # over the right edge
        bonds[i, L] += r == L - 1  # over the lower edge
    decided = np.cumsum(bonds.sum(axis=1)) - bonds.sum(axis=1)
    left = 1 - decided / (2 * L * L)
    return Site(jnp.asarray(seen), jnp.asarray(bonds), jnp.asarray(left, jnp.float32))


class Decoder(eqx.Module):
    """p(s | z) of Potts configurations, a product over sites.

    A new one draws all colours evenly.

    Attributes:
        weights: the parameters.
        L: sites along an edge.
        q: number of colours.
        symmetric: whether all colours share one function.
    """

    weights: dict[str, Array]
    L: int = eqx.field(static=True)
    q: int = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True)

    def __init__(self, L: int, q: int, hidden: int = 32, *, symmetric: bool = True, key: Array):
        """Make a network.

        Args:
            L: sites along an edge.
            q: number of colours.
            hidden: width of both hidden layers.
            symmetric: see above.
            key: for the weights.

        Raises:
            ValueError: if L is below 3, q below 2, or the width not positive.
        """
        check_size(L, q)
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")
        self.L, self.q, self.symmetric = L, q, symmetric
        shapes = {
            "colours": ((2 * L + 1) * (1 if symmetric else q), hidden),
            "shared": (4 + PLACE, hidden),
            "second": (hidden, hidden),
            "pooled": (hidden, hidden),
        }
        last = 1 if symmetric else q
        self.weights = {
            "place": jax.random.normal(jax.random.fold_in(key, 0), (L * L, PLACE), jnp.float32),
            "bias": jnp.zeros((2, hidden), jnp.float32),
            "out": jnp.zeros((hidden, last), jnp.float32),
            "coupling": jnp.zeros(4 + PLACE, jnp.float32),
        }
        if not symmetric:
            del shapes["pooled"]
        for k, (name, shape) in zip(jax.random.split(key, 4), shapes.items(), strict=False):
            matrix = jax.random.normal(k, shape, jnp.float32) / np.sqrt(shape[0]).astype(np.float32)
            self.weights[name] = matrix

    def with_weights(self, weights: Mapping[str, Array | np.ndarray]) -> "Decoder":
        """The same network with other weights, of the same names and shapes.

        Raises:
            ValueError: if names or shapes differ, or a weight is not finite.
        """
        shapes = {name: np.shape(w) for name, w in self.weights.items()}
        given = {name: np.shape(w) for name, w in weights.items()}
        if given != shapes:
            raise ValueError(f"weights must have the shapes {shapes}, got {given}")
        bad = [name for name, w in weights.items() if not np.isfinite(w).all()]
        if bad:
            raise ValueError(f"weights must be finite, but {bad} are not")
        arrays = {name: jnp.asarray(w, jnp.float32) for name, w in weights.items()}
        return eqx.tree_at(lambda d: d.weights, self, arrays)

    def _shared(self, site: Site, place, satisfied, z) -> Float[Array, " F"]:
        """Latent number, bonds so far, the share wanted of those left, and what is learnt."""
        bonds = 2.0 * self.L**2
        wanted = (-z - satisfied) / (bonds * jnp.maximum(site.left, 0.5 / bonds))
        known = jnp.stack([z / bonds, satisfied / bonds, wanted, site.left])
        return jnp.concatenate([known, place])

    def conditional(
        self, slots: Int[Array, " V"], site: Site, place: Float[Array, " P"],
        satisfied: Float[Array, ""], z: Float[Array, ""],
    ) -> Float[Array, " O"]:  # fmt: skip
        """Log-probabilities of the options of one site.

        Args:
            slots: colours of frontier and first row, -1: none.
            site: what it sees.
            place: the numbers learnt for it.
            satisfied: bonds satisfied so far.
            z: latent number.

        Returns:
            Those of the q colours, if plain; if symmetric, of the colour in each slot where it
            occurs first (-inf elsewhere), and last of all colours together that are in no slot.
        """
        w, silu = self.weights, jax.nn.silu
        shared = self._shared(site, place, satisfied, z)
        coupling, base = shared @ w["coupling"], shared @ w["shared"] + w["bias"][0]
        if not self.symmetric:
            hot = jax.nn.one_hot(slots, self.q, dtype=jnp.float32)
            gained = site.bonds @ hot
            inputs = jnp.concatenate([hot.reshape(-1), gained])
            h = silu(inputs @ w["colours"] + base)
            h = silu(h @ w["second"] + w["bias"][1])
            return jax.nn.log_softmax(h @ w["out"] + coupling * gained)
        same, first = _occurrences(slots)
        gained = same @ site.bonds
        h = silu(jnp.concatenate([same, gained[:, None]], axis=1) @ w["colours"] + base[None])
        h = jnp.concatenate([h, silu(base)[None]])
        there = jnp.append(first, True)
        count = first.sum(dtype=jnp.float32)
        pooled = jnp.where(there[:, None], h, 0.0).sum(axis=0) / (count + 1)
        h = silu(h @ w["second"] + (pooled @ w["pooled"] + w["bias"][1])[None])
        logits = (h @ w["out"])[:, 0] + coupling * jnp.append(gained, jnp.zeros(1, jnp.float32))
        ways = there.astype(jnp.float32).at[-1].set(self.q - count)
        logits = jnp.where(ways > 0, logits + jnp.log(jnp.maximum(ways, 1.0)), -jnp.inf)
        return jax.nn.log_softmax(logits)


def _occurrences(slots: Int[Array, " V"]) -> tuple[Float[Array, "V V"], Array]:
    """Which slots have the same colour, and which are the first of their colour."""
    same = (slots[:, None] == slots[None]) & (slots[:, None] >= 0)
    return same.astype(jnp.float32), (slots >= 0) & ~jnp.tril(same, -1).any(axis=1)


def _slots(s: Int[Array, " N"], seen: Int[Array, " V"]) -> Int[Array, " V"]:
    return jnp.where(seen >= 0, s[jnp.maximum(seen, 0)], -1)


def enlarge(decoder: Decoder, L: int) -> Decoder:
    """A network for a larger lattice that starts from what one for a smaller lattice has learnt.

    Rows and columns keep their place as counted from the nearer end; those added in between are
    given what the middle one has learnt.

    Args:
        decoder: a symmetric network.
        L: sites along an edge of the larger lattice.

    Raises:
        ValueError: if the network is not symmetric, or L not larger than its own.
    """
    old = decoder.L
    if not decoder.symmetric:
        raise ValueError("decoder must be symmetric")
    if old >= L:
        raise ValueError(f"L must be larger than {old}, got {L}")
    at = np.arange(L)
    source = np.where(at < old // 2, at, np.maximum(at - (L - old), old // 2))
    slots = np.concatenate([source, old + source, [2 * old]])
    sites = (old * source[:, None] + source).reshape(-1)
    weights = dict(decoder.weights)
    weights["colours"] = weights["colours"][slots]
    weights["place"] = weights["place"][sites]
    return Decoder(L, decoder.q, len(weights["second"]), key=jax.random.key(0)).with_weights(
        weights
    )


@eqx.filter_jit
def sample(
    decoder: Decoder, z: Float[Array, " B"], *, key: Array
) -> tuple[Int[Array, "B L L"], Float[Array, " B"], Float[Array, " B"]]:
    """Draw configurations, one for each latent number.

    Args:
        decoder: the network.
        z: latent numbers.
        key: for the draws.

    Returns:
        Configurations, their energies, and the logarithms of their probabilities.
    """
    L, q = decoder.L, decoder.q

    def draw(slots, site, place, satisfied, z, key):
        one, two = jax.random.split(key)
        options = decoder.conditional(slots, site, place, satisfied, z)
        option = jax.random.categorical(one, options)
        if not decoder.symmetric:
            return option, options[option]
        first = _occurrences(slots)[1]
        others = q - first.sum()
        # one of the colours that are in no slot: the number-th, passing over those that are
        number = jax.random.randint(two, (), 0, jnp.maximum(others, 1))
        taken = jnp.sort(jnp.where(first, slots, q))
        new = jax.lax.fori_loop(0, 2 * L, lambda j, c: jnp.where(taken[j] <= c, c + 1, c), number)
        fresh = option == 2 * L
        even = jnp.log(jnp.maximum(others, 1).astype(options.dtype))
        colour = jnp.where(fresh, new, slots[jnp.minimum(option, 2 * L - 1)])
        return colour, options[option] - jnp.where(fresh, even, 0.0)

    def one(z, key):
        def step(carry, inputs):
            s, satisfied, log_p = carry
            i, site, place, key = inputs
            slots = _slots(s, site.seen)
            colour, term = draw(slots, site, place, satisfied, z, key)
            gained = (slots == colour).astype(jnp.float32) @ site.bonds
            return (s.at[i].set(colour), satisfied + gained, log_p + term), None

        N = L * L
        inputs = jnp.arange(N), lattice_sites(L), decoder.weights["place"], jax.random.split(key, N)
        start = jnp.full(N, -1), jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
        (s, satisfied, log_p), _ = jax.lax.scan(step, start, inputs)
        return s.reshape(L, L), -satisfied, log_p

    return jax.vmap(one)(z, jax.random.split(key, len(z)))


@eqx.filter_jit
def log_prob(decoder: Decoder, s: Int[Array, "B L L"], z: Float[Array, " B"]) -> Float[Array, " B"]:
    """Logarithms of the probabilities of configurations, all sites at once.

    Args:
        decoder: the network.
        s: colours, 0 to q - 1; not checked, see :func:`.potts_energy`.
        z: latent numbers.
    """
    sites, flat = lattice_sites(decoder.L), s.reshape(len(s), -1)
    slots = jax.vmap(jax.vmap(_slots, (0, None)), (None, 0))(flat, sites.seen)
    hit = slots == flat.T[:, :, None]
    gained = jnp.einsum("nbv,nv->nb", hit.astype(jnp.float32), sites.bonds)
    satisfied = jnp.cumsum(gained, axis=0) - gained

    def term(slots, hit, colour, site, place, satisfied, z):
        options = decoder.conditional(slots, site, place, satisfied, z)
        if not decoder.symmetric:
            return options[colour]
        others = decoder.q - _occurrences(slots)[1].sum()
        fresh = options[-1] - jnp.log(jnp.maximum(others, 1).astype(options.dtype))
        return jnp.where(hit.any(), options[jnp.argmax(hit)], fresh)

    # Site by site the arrays fit into the processor's cache, and with a gradient that computes
    # them again instead of storing them a step of training takes half of the time.
    terms = jax.checkpoint(jax.vmap(term, (0, 0, 0, None, None, 0, 0)))

    def step(total, inputs):
        slots, hit, colour, site, place, satisfied = inputs
        return total + terms(slots, hit, colour, site, place, satisfied, z), None

    inputs = slots, hit, flat.T, sites, decoder.weights["place"], satisfied
    return jax.lax.scan(step, jnp.zeros(len(s), jnp.float32), inputs)[0]
