"""The study of chapter 11: the sample, the models, what may be missing, and the rivals."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dy33lib.magnons.campaign import Chooser, Settings
from dy33lib.magnons.counts import (
    Rows,
    candidate_grid,
    intensity,
    lowest_energy,
    measurement_rows,
    rates,
)
from dy33lib.magnons.kalman import Kernel, prior_kernel
from dy33lib.magnons.posterior import Model
from dy33lib.magnons.strategies import (
    LOGARITHM,
    ROOT,
    by_map,
    log_normal_variance,
    random,
    uniform,
    upper_bound,
)

COUPLINGS = (-1.903, -3.380, -1.670, -0.093, -0.090, 0.365, -0.292)  # of the size reported (meV)
AMPLITUDE, BACKGROUND = 20.0, 2.0  # counts
WAVE_VECTORS, ENERGIES = 61, 52
TARGET = 0.02  # meV


class Bench(NamedTuple):
    """Everything that a campaign of the chapter needs.

    Attributes:
        rows: the candidates.
        length: of the path at each wave vector.
        theta: the true parameters.
        three: model with J1 to J3.
        seven: model with J1 to J7.
        kernel: of the map, from the prior of the large model.
    """

    rows: Rows
    length: Float[np.ndarray, " Q"]
    theta: Float[Array, " d"]
    three: Model
    seven: Model
    kernel: Kernel

    @property
    def expected(self) -> Float[Array, " C"]:
        """True intensities (counts)."""
        return intensity(self.theta, self.rows)

    def settings(self, **changes) -> Settings:
        """Settings of the chapter, with changes."""
        return Settings(kernel=self.kernel, target=TARGET)._replace(**changes)


def bench(
    couplings: tuple[float, ...] = COUPLINGS, *, shift: float = 0.0, width: float = 1.0
) -> Bench:
    """The sample of the chapter, or another one, and what is believed of it beforehand.

    The prior knows that neighbours couple ferromagnetically, with about 2 meV each, and no more: J1
    to J3 are -2 +- 1 meV, J4 to J7 0 +- 0.3 meV, amplitude and background right to a factor of 1.6
    around 15 and 3 counts.

    Args:
        couplings: true J1 to J7 (meV).
        shift: added to the prior means of J1 to J3 (meV).
        width: factor on all prior standard deviations of couplings.

    Raises:
        ValueError: if there are not seven couplings; as in :func:`.intensity`.
    """
    if len(couplings) != 7:
        raise ValueError(f"couplings must be seven numbers, got {len(couplings)}")
    points, length = candidate_grid(WAVE_VECTORS, (2.0, 53.0, ENERGIES))
    rows = measurement_rows(points)
    guard = rows.take(jnp.arange(0, len(points), ENERGIES))
    center = [-2.0 + shift] * 3 + [0.0] * 4
    mean = jnp.array([*center, np.log(15.0), np.log(3.0)])
    sd = width * np.array([1.0] * 3 + [0.3] * 4)
    few = np.where(np.arange(7) < 3, sd, 0.0)
    three, seven = (Model(mean, jnp.array([*s, 0.5, 0.5]), guard) for s in (few, sd))
    theta = jnp.array([*couplings, np.log(AMPLITUDE), np.log(BACKGROUND)])
    intensity(theta, rows)
    kernel = prior_kernel(seven, rows, ENERGIES, key=jax.random.key(3))
    return Bench(rows, length, theta, three, seven, kernel)


def with_j8(setup: Bench, J8: float) -> Float[Array, " C"]:
    """Intensities of a sample that has an eighth coupling (meV)."""
    theta = jnp.array([*setup.theta[:7], J8, *setup.theta[7:]])
    return intensity(theta, measurement_rows(setup.rows.points, 8))


def with_flat_mode(
    setup: Bench, energy: float, height: float, theta: Float[Array, " d"] | None = None
) -> Float[Array, " C"]:
    """Intensities of a sample with one more line, at the same energy everywhere.

    Args:
        setup: the bench.
        energy: of the line (meV); it is as broad as the resolution.
        height: of the line (counts).
        theta: other parameters than those of the bench.
    """
    rows = setup.rows
    line = jnp.exp(-0.5 * ((rows.points[:, 2] - energy) / rows.sigma) ** 2)
    return rates(setup.theta if theta is None else theta, rows) + height * line


def prior_truth(
    setup: Bench, model: Model | None = None, *, rng: np.random.Generator
) -> Float[Array, " d"]:
    """Parameters drawn from the prior of a model, by default the large one; stable ones."""
    model = setup.seven if model is None else model
    while True:
        theta = model.mean + model.sd * jnp.asarray(rng.normal(size=len(model.mean)))
        if float(lowest_energy(theta, model.guard)) >= 0:
            return theta


def rivals(
    setup: Bench, *, kappa: float, batch: int = 6, size: int = 480
) -> dict[str, Callable[[int], Chooser]]:
    """Other strategies, each made anew for a seed.

    Args:
        setup: the bench.
        kappa: weight of the uncertainty in Bayesian optimisation.
        batch: points at once.
        size: most points.
    """
    rows, key = setup.rows, jax.random.key(3)
    kernels = {
        name: prior_kernel(setup.seven, rows, ENERGIES, transform, key=key)
        for name, transform in (
            ("root", lambda x: 2 * jnp.sqrt(x + 0.375)),
            ("log", lambda x: jnp.log(x + 0.5)),
        )
    }
    return {
        "uniform": lambda seed: uniform(WAVE_VECTORS, ENERGIES, batch),
        "random": lambda seed: random(
            WAVE_VECTORS * ENERGIES, batch, rng=np.random.default_rng(seed)
        ),
        "GP-UCB": lambda seed: by_map(rows, kernels["root"], upper_bound(kappa), ROOT, batch, size),
        "log-GP": lambda seed: by_map(
            rows, kernels["log"], log_normal_variance, LOGARITHM, batch, size
        ),
    }
