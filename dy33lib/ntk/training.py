"""Training by gradient descent, and the exact flow of the linearised network."""

from typing import NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Num, PyTree
from scipy import optimize

from dy33lib.ntk._checks import as_kernel, check_inputs, check_positive
from dy33lib.ntk.kernels import empirical_ntk
from dy33lib.ntk.network import MLP


class TrainResult(eqx.Module):
    """A trained network and how the training ended.

    Attributes:
        model: the network with its final weights.
        steps: updates that led to these weights.
        loss: training loss of these weights over its value at the start.
        converged: whether the goal was met: `loss <= tol` or, with a validation set, that the
            smallest validation loss was passed. If not, the budget ran out or it diverged.
    """

    model: MLP
    steps: int
    loss: float
    converged: bool


def train_full_batch(
    model: MLP,
    X: Num[Array | np.ndarray, "m d"],
    Y: Num[Array | np.ndarray, "m k"],
    *,
    validation: tuple[Num[Array | np.ndarray, "v d"], Num[Array | np.ndarray, "v k"]] | None = None,
    lr: float = 0.3,
    momentum: float = 0.0,
    tol: float = 0.01,
    max_steps: int = 5000,
) -> TrainResult:
    r"""Fit the centred network :math:`f - f_0` to Y by full-batch gradient descent.

    The random function :math:`f_0` that a network starts with is subtracted (Chizat et al.
    2019): it would add a noise of its own to every kernel change. The loss is
    :math:`\frac{1}{2m}\sum_i |f(x_i) - f_0(x_i) - y_i|^2`.

    Args:
        model: the network at its start.
        X: inputs, shape (m, d).
        Y: targets of the centred network, shape (m, k).
        validation: held-out inputs and targets. With them the weights of the smallest validation
            loss are returned, and training ends once it has not been undercut for half as many
            steps again as it took (and at least 50), or `tol` is reached.
        lr: step size in units of :math:`1/\lambda`, with :math:`\lambda` the largest eigenvalue
            of the starting kernel (its mean over outputs) over m: the same fraction of the
            stability limit at every width and gamma. Descent without momentum is stable while
            lr times the growth of :math:`\lambda` stays below 2.
        momentum: of heavy-ball descent, in [0, 1). With 0, the limit of small lr is gradient
            flow; a momentum of 0.9 overshoots, and the kernel then changes by another amount.
        tol: stop at this fraction of the initial training loss.
        max_steps: give up after as many updates; the result then says `converged=False`.

    Raises:
        ValueError: if shapes do not match, or lr, tol, momentum or max_steps is out of range.
    """
    dtype = model.dtype

    def pair(inputs, targets, name: str) -> tuple[Array, Array]:
        inputs = check_inputs(inputs, model.in_size, dtype, f"{name} inputs")
        if targets.shape != (inputs.shape[0], model.out_size):
            raise ValueError(
                f"expected {name} targets of shape {(inputs.shape[0], model.out_size)}, "
                f"got {targets.shape}"
            )
        return inputs, jnp.asarray(targets, dtype)

    X, Y = pair(X, Y, "training")
    held_out = None if validation is None else pair(*validation, "validation")
    for name, value in (("lr", lr), ("tol", tol), ("max_steps", max_steps)):
        check_positive(name, value)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    # Rows of zeros add eigenvalues of zero and nothing else (there are no biases, and every
    # activation is 0 at 0): with them, training sets of many sizes share one compiled kernel.
    padded = jnp.pad(X, ((0, -X.shape[0] % 128), (0, 0)))
    kernel = np.asarray(empirical_ntk(model, padded), np.float64) / model.out_size
    largest = np.linalg.eigvalsh(kernel)[-1] / X.shape[0]
    step_size, goal = jnp.asarray(lr / largest, dtype), jnp.asarray(tol, dtype)
    final, steps, loss, met = _descend(
        model, X, Y, held_out, step_size, float(momentum), goal, jnp.asarray(max_steps)
    )
    return TrainResult(final, int(steps), float(loss), bool(met))


class _Best(NamedTuple):
    """The weights to return: the last ones, or those of the smallest validation loss."""

    score: Array
    step: Array
    loss: Array
    weights: tuple[Array, ...]


class _Descent(NamedTuple):
    """State of the loop: `weights` come next; `loss` and `best` speak of those before."""

    weights: tuple[Array, ...]
    optimiser: PyTree
    step: Array
    loss: Array
    best: _Best


@eqx.filter_jit
def _descend(model, X, Y, validation, step_size, momentum, tol, max_steps):
    def outputs(weights, inputs):
        return jax.vmap(eqx.tree_at(lambda m: m.weights, model, weights))(inputs)

    def mean_square(error):
        return jnp.mean(jnp.sum(error**2, axis=1)) / 2

    initial = model.weights
    target, start = Y + outputs(initial, X), mean_square(Y)
    held_out = None if validation is None else validation[1] + outputs(initial, validation[0])
    optimiser = optax.sgd(step_size, momentum or None)

    @jax.value_and_grad
    def loss_and_gradient(weights):
        return mean_square(outputs(weights, X) - target)

    def passed(s: _Descent):
        """Whether the minimum of the validation loss lies well behind."""
        return s.step - 1 > 50 + s.best.step + s.best.step // 2

    def unfinished(s: _Descent):
        # NaN compares false: a run that diverges stops, and does not count as converged.
        going = (s.loss > tol * start) & (s.step <= max_steps)
        return going if validation is None else going & ~passed(s)

    def update(s: _Descent):
        loss, gradient = loss_and_gradient(s.weights)
        best = _Best(loss, s.step, loss, s.weights)
        if validation is not None:
            score = mean_square(outputs(s.weights, validation[0]) - held_out)
            here = best._replace(score=score)
            better = score < s.best.score
            best = jax.tree.map(lambda new, kept: jnp.where(better, new, kept), here, s.best)
        change, state = optimiser.update(gradient, s.optimiser)
        weights = cast(tuple[Array, ...], optax.apply_updates(s.weights, change))
        return _Descent(weights, state, s.step + 1, loss, best)

    zero, infinite = jnp.zeros((), int), jnp.full((), jnp.inf, start.dtype)
    nothing = _Best(infinite, zero, infinite, initial)
    first = _Descent(initial, optimiser.init(initial), zero, infinite, nothing)
    s = jax.lax.while_loop(unfinished, update, first)
    met = s.loss <= tol * start
    if validation is not None:
        met = met | (passed(s) & jnp.isfinite(s.loss))
    final = eqx.tree_at(lambda m: m.weights, model, s.best.weights)
    return final, s.best.step, s.best.loss / start, met


class KernelFlow(NamedTuple):
    """Outputs of a linearised network: on the training inputs, and elsewhere."""

    train: Float[np.ndarray, "n ..."]
    elsewhere: Float[np.ndarray, "e ..."]


def kernel_gradient_flow(
    K_tt: Num[Array | np.ndarray, "n n"],
    K_et: Num[Array | np.ndarray, "e n"],
    Y: Num[Array | np.ndarray, "n *k"],
    t: float,
) -> KernelFlow:
    r"""Gradient flow of a network linearised about its start, in closed form.

    With the kernel fixed, :math:`\dot f = -K (f - Y)` and :math:`f(0) = 0`, so that
    :math:`f(t) = (1 - e^{-Kt})\,Y` on the training set and
    :math:`K_{et} K_{tt}^{-1} (1 - e^{-Kt})\,Y` elsewhere (Lee et al. 2019, eqs. 8-11).

    Args:
        K_tt: kernel on the training inputs, shape (n, n). For several coupled outputs flatten
            (sample, output) into one index.
        K_et: kernel between other and training inputs, shape (e, n).
        Y: targets, shape (n,) or (n, k).
        t: time, not negative; `inf` gives kernel regression.

    Raises:
        ValueError: if shapes do not match, K_tt is not a kernel, or t is negative.
    """
    if not t >= 0:
        raise ValueError(f"t must not be negative, got {t}")
    kernel, targets, cross = as_kernel(K_tt, "K_tt"), np.asarray(Y), np.asarray(K_et)
    if targets.shape[0] != kernel.shape[0] or cross.ndim != 2 or cross.shape[1] != len(kernel):
        raise ValueError(
            f"K_tt {kernel.shape}, K_et {cross.shape} and Y {targets.shape} do not match"
        )
    values, vectors = np.linalg.eigh(kernel)
    # Directions below rounding carry no information; dividing by them would invent some.
    live = values > values[-1] * len(kernel) * np.finfo(np.asarray(K_tt).dtype).eps
    values, vectors = values[live], vectors[:, live]
    learnt = -np.expm1(-values * t)
    projected = vectors.T @ targets
    column = (slice(None),) + (None,) * (targets.ndim - 1)
    return KernelFlow(
        vectors @ (learnt[column] * projected),
        cross @ (vectors @ ((learnt / values)[column] * projected)),
    )


def match_time(
    K: Num[Array | np.ndarray, "n n"], Y: Num[Array | np.ndarray, "n *k"], tol: float
) -> float:
    """Time at which the flow of :func:`.kernel_gradient_flow` has the loss `tol` times the first.

    Raises:
        ValueError: if tol is not between 0 and 1, or no time reaches it.
    """
    if not 0 < tol < 1:
        raise ValueError(f"tol must be between 0 and 1, got {tol}")
    values, vectors = np.linalg.eigh(as_kernel(K))
    values = np.maximum(values, 0)
    power = ((vectors.T @ np.asarray(Y, np.float64)) ** 2).reshape(len(values), -1).sum(axis=1)
    power = power / power.sum()

    def excess(log_t: float) -> float:
        return float(np.sum(power * np.exp(-2 * values * np.exp(log_t))) - tol)

    low, high = float(np.log(1e-6 / values[-1])), float(np.log(1e12 / values[-1]))
    if excess(high) > 0:
        raise ValueError(f"the kernel cannot reach tol={tol}: it is singular on the targets")
    log_t, _ = optimize.brentq(excess, low, high, xtol=1e-12, full_output=True)
    return float(np.exp(log_t))
