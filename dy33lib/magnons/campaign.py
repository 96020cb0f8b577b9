"""A campaign: choose, count, learn, doubt; and the alarm that makes models grow.

The alarm is a bet against the model. Before each count two predictions exist: p0 of the physical
model (all its particles), and p1 of the map, which knows counts only. A gambler puts a share of the
capital on p1/p0 each time. If the model is true, with parameters drawn from its prior, the capital
is a martingale, and the chance that it ever reaches 20 is at most 1/20 (Ville 1939), however points
are chosen and however often one looks. (Particles give p0 approximately, and a void bet leaves at
most the capital of the start: what is left of the guarantee is measured.)

So a model that has lost by 20 to 1 is left: for one with more couplings or, if there is
none, with the verdict that something is missing. Before that verdict, and before the couplings are
called known, the posterior is computed once more from new particles of the prior, so that particles
that were led astray are not taken for a wrong model or a certain one. (The evidence scatters from
one set of 512 particles to the next by about 2 in its logarithm, so that some second looks win by
chance. That does no harm to the posterior, which both sets follow; an alarm is put off.)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import logsumexp, softmax
from scipy.stats import nbinom, poisson

from dy33lib.magnons.counts import Rows, check_index, simulate_counts
from dy33lib.magnons.design import Rule, Travel, disagreement, predict, select
from dy33lib.magnons.kalman import Kernel, Map, empty_map, kalman_step
from dy33lib.magnons.posterior import Data, Model, Particles, pack, sample_prior, smc_update

SHARES = np.array([0.02, 0.1, 0.5])  # of the capital put on the map; one gambler each
ODDS = 20.0
MARGIN = 3.0  # of log evidence, beyond which the second look is believed
FAINTEST = 0.5  # counts: the map's mean may be lower, even negative; the rate it bets on is not
EFFECTIVE = 0.05  # share of the particles without which there is no bet


class Beam:
    """A sample in the beam: counts at a candidate, the same for all who ask.

    The noise of a count is drawn from the seed, the candidate and how often it was measured before,
    so that strategies that choose the same point see the same count.

    Args:
        expected: true intensity at all candidates (counts).
        key: for the noise.

    Raises:
        ValueError: if an intensity is negative or not finite.
    """

    def __init__(self, expected: Float[Array, " C"], *, key: Array):
        simulate_counts(expected, key=key)
        self.expected, self.key = expected, key
        self.visits = np.zeros(len(expected), int)

    def count(self, index: Int[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
        """Measure some candidates, one after the other."""
        check_index(index, len(self.expected))
        visit = np.zeros(len(index), int)
        for place, i in enumerate(index):
            visit[place] = self.visits[i]
            self.visits[i] += 1
        return np.asarray(_counts(self.expected, jnp.asarray(index), jnp.asarray(visit), self.key))


@jax.jit
def _counts(expected, index, visit, key):
    def one(i, v):
        return jax.random.poisson(jax.random.fold_in(jax.random.fold_in(key, i), v), expected[i])

    return jax.vmap(one)(index, visit).astype(float)


class Batch(NamedTuple):
    """What is known after one batch.

    Attributes:
        chosen: the candidates measured.
        counts: what was counted there.
        model: number of the model in use when they were chosen.
        log_capital: of the gambler against that model, after the batch.
        theta: particles of the posterior after the batch.
        converged: whether they reached it.
    """

    chosen: Int[np.ndarray, " b"]
    counts: Float[np.ndarray, " b"]
    model: int
    log_capital: float
    theta: Float[np.ndarray, "M d"]
    converged: bool

    @property
    def mean(self) -> Float[np.ndarray, " d"]:
        """Posterior means."""
        return self.theta.mean(axis=0)

    @property
    def sd(self) -> Float[np.ndarray, " d"]:
        """Posterior standard deviations."""
        return self.theta.std(axis=0)

    @property
    def low(self) -> Float[np.ndarray, " d"]:
        """Lower ends of the 90 % intervals."""
        return np.quantile(self.theta, 0.05, axis=0)

    @property
    def high(self) -> Float[np.ndarray, " d"]:
        """Upper ends of the 90 % intervals."""
        return np.quantile(self.theta, 0.95, axis=0)


class Campaign(NamedTuple):
    """The record of a campaign.

    Attributes:
        batches: one after the other.
        alarms: after how many points each model was given up; the last number is that of "something
            is missing", if there are as many as models.
        lost: after how many points the particles turned out to have lost the peak of the posterior:
            new ones, from the prior, found far more evidence, and replaced them.
        particles: the last posterior.
        spectrum: the last map of counts; None if there was none.
    """

    batches: list[Batch]
    alarms: list[int]
    lost: list[int]
    particles: Particles
    spectrum: Map | None

    @property
    def visited(self) -> Int[np.ndarray, " N"]:
        """All points, in order."""
        return np.concatenate([b.chosen for b in self.batches])

    @property
    def counts(self) -> Float[np.ndarray, " N"]:
        """All counts, in order."""
        return np.concatenate([b.counts for b in self.batches])

    @property
    def points(self) -> Int[np.ndarray, " B"]:
        """Number of points after each batch."""
        return np.cumsum([len(b.chosen) for b in self.batches])

    def reached(self, target: float, models: int) -> float:
        """Points until every coupling of the largest model first has a smaller standard deviation.

        Infinite if that did not happen. (A campaign that goes on may be less certain again, after a
        second look; one that stops has had it.)
        """
        for N, batch in zip(self.points, self.batches, strict=True):
            if batch.model == models - 1 and batch.sd[:-2].max() < target:
                return float(N)
        return float("inf")


def map_odds(
    counts: Float[np.ndarray, " b"],
    mean: Float[np.ndarray, " b"],
    var: Float[np.ndarray, " b"],
    predicted: Float[np.ndarray, "M b"],
) -> Float[np.ndarray, " b"]:
    """Log of p1/p0 for each of some counts.

    p1 is a negative binomial law with the map's mean m (at least half a count) and the variance
    m + P; p0 the mean of Poisson laws over the particles, each weighted by how well it has
    predicted the counts of the batch so far. (The map is that before the batch: the bet on its last
    counts is less informed than it could be, but not unfair.) Where less than a twentieth of the
    particles is left effective, p0 would be a guess, and there is no bet: the result is 0.

    Args:
        counts: what was counted.
        mean: the map's means before.
        var: the map's variances before.
        predicted: intensities of the particles.
    """
    level, spread = np.maximum(mean, FAINTEST), np.maximum(var, 1e-6)
    size = level**2 / spread
    bold = nbinom.logpmf(counts, size, size / (size + level))
    each = np.cumsum(poisson.logpmf(counts[None], predicted), axis=1)
    so_far = logsumexp(each, axis=0) - np.log(len(predicted))
    before = np.concatenate([np.zeros((len(each), 1)), each[:, :-1]], axis=1)
    share = softmax(before, axis=0)
    certain = 1 / (share**2).sum(axis=0) >= EFFECTIVE * len(predicted)
    return np.where(certain, bold - np.diff(so_far, prepend=0.0), 0.0)


class Gambler(NamedTuple):
    """Capital of three gamblers, each with another share on the map."""

    logs: Float[np.ndarray, " 3"] = np.zeros(3)

    def bet(self, odds: Float[np.ndarray, " b"]) -> "Gambler":
        """The capital after some counts, of which `odds` are log p1/p0."""
        gains = np.logaddexp(np.log1p(-SHARES)[:, None], np.log(SHARES)[:, None] + odds)
        return Gambler(self.logs + gains.sum(axis=1))

    def void(self) -> "Gambler":
        """After bets that count no more: gains are taken back, losses stay."""
        return Gambler() if self.log_capital > 0 else self

    @property
    def log_capital(self) -> float:
        """Of all three together, who started with a third each."""
        return float(logsumexp(self.logs) - np.log(len(SHARES)))


class Settings(NamedTuple):
    """How a campaign is run.

    Attributes:
        batch: points between two updates.
        adversary: of these, points where map and model may disagree most. Once the target is
            reached all points are the adversary's.
        caution: weight of the map's uncertainty in that choice, see :func:`.disagreement`.
        blind: a control: the adversary's points are drawn at random instead.
        rule: what the other points should tell about, see :func:`.select`.
        mapped: whether there is a map; without one there is no alarm, and the last model is used
            from the start.
        particles: number of them.
        size: room for this many points.
        kernel: of the map.
        travel: cost of measurements; None: points count, not minutes.
        target: couplings of the last model are known if their standard deviations are below (meV).
        stop: end there; otherwise doubt until the limit.
    """

    batch: int = 6
    adversary: int = 1
    caution: float = 1.0
    blind: bool = False
    rule: Rule = "couplings"
    mapped: bool = True
    particles: int = 512
    size: int = 160
    kernel: Kernel = Kernel()
    travel: Travel | None = None
    target: float = 0.02
    stop: bool = True


Chooser = Callable[[Int[np.ndarray, " N"], Float[np.ndarray, " N"]], Int[np.ndarray, " b"]]


def run_campaign(
    beam: Beam,
    rows: Rows,
    models: Sequence[Model],
    limit: int,
    settings: Settings | None = None,
    *,
    key: Array,
    chooser: Chooser | None = None,
) -> Campaign:
    """Measure until the couplings are known, or the limit is reached.

    Args:
        beam: gives counts.
        rows: the candidates, for the largest model.
        models: from small to large, of one shape; the first is used until the alarm goes.
        limit: most points to measure.
        settings: as in :class:`Settings`.
        key: for the particles.
        chooser: another strategy; it gets the points and counts so far and returns the next points.

    Raises:
        ValueError: if there is no model; if the limit is below one batch or above the room; if a
            setting or the number of points from the chooser is impossible; as in :func:`.select`.
    """
    settings = Settings() if settings is None else settings
    if not models:
        raise ValueError("models must not be empty")
    if not 1 <= settings.batch:
        raise ValueError(f"batch must be at least 1, got {settings.batch}")
    if not 0 <= settings.adversary <= settings.batch:
        raise ValueError(
            f"adversary must be between 0 and the batch ({settings.batch}), "
            f"got {settings.adversary}"
        )
    if not settings.caution >= 0:
        raise ValueError(f"caution must be at least 0, got {settings.caution}")
    if not settings.batch <= limit <= settings.size:
        raise ValueError(
            f"limit must be between one batch ({settings.batch}) and {settings.size}, got {limit}"
        )
    growing = settings.mapped
    number = 0 if growing else len(models) - 1
    key, draw, dice = jax.random.split(key, 3)
    particles = sample_prior(models[number], settings.particles, key=draw)
    gambler, rng = Gambler(), np.random.default_rng(np.asarray(jax.random.key_data(dice)))
    spectrum = empty_map(rows.points, settings.kernel, settings.size) if settings.mapped else None
    known = False
    index, counts = np.zeros(0, int), np.zeros(0)
    batches, alarms, lost = [], [], []
    while len(index) + settings.batch <= limit and len(alarms) < len(models):
        model = models[number]
        if chooser is None:
            chosen = next_batch(particles, spectrum, rows, model, index, settings, known, rng=rng)
        else:
            chosen = np.asarray(chooser(index, counts))
            if not 1 <= len(chosen) <= limit - len(index):
                raise ValueError(
                    f"chooser must return 1 to {limit - len(index)} points, got {len(chosen)}"
                )
        found = beam.count(chosen)
        if spectrum is not None:
            before = np.asarray(spectrum.mean[chosen]), np.asarray(spectrum.var[chosen])
            predicted = predict(particles.theta, rows.take(jnp.asarray(chosen)))
            gambler = gambler.bet(map_odds(found, *before, np.asarray(predicted)))
            for i, n in zip(chosen, found, strict=True):
                args = (jnp.asarray(i), jnp.asarray(n), jnp.asarray(n + 1))
                spectrum = kalman_step(spectrum, rows.points, *args, settings.kernel)
        old = pack(rows, index, counts, settings.size).weight
        index, counts = np.append(index, chosen), np.append(counts, found)
        data = pack(rows, index, counts, settings.size)
        key, sub, again = jax.random.split(key, 3)
        particles = smc_update(particles, data, old, model, key=sub)
        capital, used = gambler.log_capital, number
        alarm = growing and capital >= np.log(ODDS)
        largest = number == len(models) - 1
        seems = bool(particles.sd[:-2].max() < settings.target) and not known
        if largest and (alarm or seems):
            second = _anew(model, data, settings.particles, again)
            if second.log_evidence > particles.log_evidence + MARGIN:
                particles, alarm, gambler = second, False, gambler.void()
                lost.append(len(index))
        if alarm:
            alarms.append(len(index))
            gambler = Gambler()
            if number + 1 < len(models):
                number += 1
                particles = _anew(models[number], data, settings.particles, again)
        theta, converged = np.asarray(particles.theta), bool(particles.converged)
        batches.append(Batch(chosen, found, used, capital, theta, converged))
        last = number == len(models) - 1 and used == number
        known = last and bool(batches[-1].sd[:-2].max() < settings.target)
        if known and settings.stop:
            break
    return Campaign(batches, alarms, lost, particles, spectrum)


def _anew(model: Model, data: Data, size: int, key: Array) -> Particles:
    """The posterior of all data, from new particles of the prior."""
    draw, key = jax.random.split(key)
    start = sample_prior(model, size, key=draw)
    return smc_update(start, data, 0 * data.weight, model, key=key)


def next_batch(
    particles: Particles,
    spectrum: Map | None,
    rows: Rows,
    model: Model,
    visited: Int[np.ndarray, " N"],
    settings: Settings,
    known: bool = False,
    *,
    rng: np.random.Generator,
) -> Int[np.ndarray, " b"]:
    """The next batch: points of the adversary, spread apart by the map, then those of the model.

    Args:
        particles: the posterior.
        spectrum: the map of counts; without one there is no adversary.
        rows: the candidates.
        model: says which couplings count.
        visited: where was measured so far.
        settings: of the campaign.
        known: whether the couplings are known; if so, all points are the adversary's.
        rng: for a blind adversary.
    """
    predicted = predict(particles.theta, rows)
    forced, guess, mean = [], spectrum, predicted.mean(axis=0)
    doubts = settings.batch if known and settings.adversary else settings.adversary
    while guess is not None and len(forced) < doubts:
        if settings.blind:
            worst = jnp.asarray(rng.integers(len(mean)))
        else:
            worst = jnp.argmax(disagreement(guess, mean, settings.caution))
        forced.append(int(worst))
        args = worst, guess.mean[worst], mean[worst]
        guess = kalman_step(guess, rows.points, *args, settings.kernel)
    here = rows.points[visited[-1]] if len(visited) else None
    chosen = select(
        particles.theta,
        rows,
        settings.batch,
        rule=settings.rule,
        predicted=predicted,
        free=model.free,
        forced=tuple(forced),
        travel=settings.travel,
        start=here,
    )
    return np.asarray(chosen)
