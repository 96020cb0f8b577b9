"""The study of chapter 1: one training run, many runs, and the sizes of both."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dy33lib.datasets import Images, Task, load_vision, vision_task
from dy33lib.ntk._checks import check_positive
from dy33lib.ntk.kernels import empirical_ntk
from dy33lib.ntk.network import MLP
from dy33lib.ntk.observables import kernel_entropy, kernel_trace, label_alignment, relative_change
from dy33lib.ntk.scaling import power_law_fit
from dy33lib.ntk.training import kernel_gradient_flow, match_time, train_full_batch


@dataclass(frozen=True)
class Case:
    """Everything that decides one training run.

    Attributes:
        width: units in each hidden layer.
        samples: training images.
        gamma: inverse output scale.
        seed: of the split of the images and of the weights.
        depth: hidden layers.
        activation: as in `MLP`.
        antisymmetric: as in `MLP`.
        early_stopping: stop at the smallest validation loss, and not only at `tol`.
        tol: goal for the training loss, as a fraction of its start.
        lr: as in :func:`.train_full_batch`.
        max_steps: as in :func:`.train_full_batch`.
        images: "digits", "mnist" or "cifar10".
        validation: held-out images that decide when to stop.
        test: held-out images that decide nothing; the kernel is probed on the first of them.
        probe: number of probe images.
    """

    width: int
    samples: int = 128
    gamma: float = 1.0
    seed: int = 0
    depth: int = 1
    activation: str = "relu"
    antisymmetric: bool = False
    early_stopping: bool = False
    tol: float = 0.01
    lr: float = 0.3
    max_steps: int = 5000
    images: str = "digits"
    validation: int = 300
    test: int = 400
    probe: int = 128


def steady_step(gamma: float, width: int, fraction: float = 0.5) -> float:
    r"""Step of gradient descent that stays stable while the kernel grows.

    In the solved linear network the kernel grows by :math:`\sqrt{1 + \gamma^2 y^2/N}`; the step is
    the given fraction of the inverse of that, with y = 1, in the units of `lr` in
    :func:`.train_full_batch`.

    Raises:
        ValueError: if an argument is not positive.
    """
    for name, value in (("gamma", gamma), ("width", width), ("fraction", fraction)):
        check_positive(name, value)
    return float(fraction / np.sqrt(1 + gamma**2 / width))


class Run(NamedTuple):
    """What one training run did to the network, and to its kernel on the probe images.

    Attributes:
        case: what was run.
        converged: as in `TrainResult`.
        steps: updates made.
        train_loss: training loss over its start.
        test_loss: squared error on the test images over that of the constant 0.
        change: relative change of the kernel.
        trace_ratio: trace of the kernel after over before.
        entropy: effective entropy of the kernel (before, after).
        alignment: label alignment of the kernel (before, after).
    """

    case: Case
    converged: bool
    steps: int
    train_loss: float
    test_loss: float
    change: float
    trace_ratio: float
    entropy: tuple[float, float]
    alignment: tuple[float, float]


@lru_cache
def _images(name: str) -> Images:
    return load_vision(name)


def prepare(case: Case) -> tuple[MLP, Task]:
    """The network at its start, in single precision, and its images.

    Raises:
        ValueError: if the case asks for more images than there are, or is out of range.
    """
    task = vision_task(
        _images(case.images),
        train=case.samples,
        validation=case.validation,
        test=case.test,
        rng=np.random.default_rng(case.seed),
    )
    X, Y = task.train
    model = MLP(
        (X.shape[1],) + (case.width,) * case.depth + (Y.shape[1],),
        gamma=case.gamma,
        activation=case.activation,
        antisymmetric=case.antisymmetric,
        key=jax.random.key(case.seed),
    )
    return model, task


def run_case(case: Case) -> Run:
    """Train one network and compare its kernel on held-out images before and after.

    Raises:
        ValueError: if the case asks for more images than there are, or is out of range.
    """
    model, task = prepare(case)
    result = train_full_batch(
        model,
        *task.train,
        validation=task.validation if case.early_stopping else None,
        lr=case.lr,
        tol=case.tol,
        max_steps=case.max_steps,
    )
    X, Y = (jnp.asarray(part, model.dtype) for part in task.test)
    probe = X[: case.probe]
    error = np.asarray(_outputs(result.model, X) - _outputs(model, X) - Y)
    before, after = empirical_ntk(model, probe), empirical_ntk(result.model, probe)
    return Run(
        case=case,
        converged=result.converged,
        steps=result.steps,
        train_loss=result.loss,
        test_loss=float(np.sum(error**2) / np.sum(np.asarray(Y) ** 2)),
        change=relative_change(before, after),
        trace_ratio=kernel_trace(after) / kernel_trace(before),
        entropy=(kernel_entropy(before, effective=True), kernel_entropy(after, effective=True)),
        alignment=(
            label_alignment(before, Y[: case.probe]),
            label_alignment(after, Y[: case.probe]),
        ),
    )


@eqx.filter_jit
def _outputs(model: MLP, X: Float[Array, "m d"]) -> Float[Array, "m k"]:
    return jax.vmap(model)(X)


def run_cases(
    cases: Iterable[Case],
    *,
    executor: Executor | None = None,
    track: Callable[[Iterable[Run], int], Iterable[Run]] | None = None,
) -> list[Run]:
    """Run many cases, in this process or wherever the executor runs them.

    Args:
        cases: what to run.
        executor: any `concurrent.futures.Executor`; in this process if left out.
        track: wraps the stream of results, given their number; for instance
            `dy33lib.progress.progress`.

    Returns:
        The runs, in the order of the cases.
    """
    cases = list(cases)
    runs = map(run_case, cases) if executor is None else executor.map(run_case, cases)
    return list(runs if track is None else track(runs, len(cases)))


def curve(
    runs: Iterable["Run | Linearised"], observable: str, *, along: str, **fixed: Any
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "seeds n"]]:
    """One observable of the runs against one property of their cases, a row a seed.

    Args:
        runs: from :func:`.run_cases`.
        observable: a field of `Run`, such as "change"; of (before, after) pairs the second.
        along: a field of `Case`, such as "width".
        fixed: fields of `Case` and the values that the runs must have.

    Returns:
        The values of `along`, increasing, shape (n,), and of the observable, shape (seeds, n).

    Raises:
        ValueError: if no run fits, or not each seed has each value exactly once.
    """
    chosen = [r for r in runs if all(getattr(r.case, k) == v for k, v in fixed.items())]
    x = sorted({getattr(r.case, along) for r in chosen})
    seeds = sorted({r.case.seed for r in chosen})
    points = {(r.case.seed, getattr(r.case, along)) for r in chosen}
    if not chosen or not len(points) == len(chosen) == len(x) * len(seeds):
        raise ValueError(f"{len(chosen)} runs with {fixed} for {len(x)} x {len(seeds)} points")
    y = np.full((len(seeds), len(x)), np.nan)
    for r in chosen:
        value = getattr(r, observable)
        y[seeds.index(r.case.seed), x.index(getattr(r.case, along))] = (
            value[1] if isinstance(value, tuple) else value
        )
    return np.asarray(x, float), y


def seed_exponents(x: Float[np.ndarray, " n"], y: Float[np.ndarray, "seeds n"]) -> list[float]:
    """One power-law exponent a seed: the independent numbers behind a mean and its error."""
    return [power_law_fit(x, row).exponent for row in y]


class Linearised(NamedTuple):
    """A trained network beside the same network linearised about its start.

    Attributes:
        case: what was run.
        distance: of the two functions on the test images, over the length of the trained one.
        trained: test loss of the trained network.
        linear: test loss of the linearised network, stopped at the same training loss.
        converged: as in `TrainResult`.
    """

    case: Case
    distance: float
    trained: float
    linear: float
    converged: bool


def run_linearised(case: Case) -> Linearised:
    """Train a network, and let its linearisation flow in closed form to the same training loss.

    The kernel keeps all output pairs, so nothing but the linearisation is approximated.

    Raises:
        ValueError: as in :func:`.run_case`.
    """
    model, task = prepare(case)
    result = train_full_batch(
        model, *task.train, lr=case.lr, tol=case.tol, max_steps=case.max_steps
    )
    (X, Y), (X_test, Y_test) = task.train, task.test

    def flattened(kernel: Float[Array, "m n k k"]) -> Float[np.ndarray, "mk nk"]:
        m, n, k, _ = kernel.shape
        return np.asarray(kernel, np.float64).transpose(0, 2, 1, 3).reshape(m * k, n * k)

    K_tt = flattened(empirical_ntk(model, X, trace=False))
    K_et = flattened(empirical_ntk(model, X_test, X, trace=False))
    t = match_time(K_tt, Y.reshape(-1), result.loss)
    linear = kernel_gradient_flow(K_tt, K_et, Y.reshape(-1), t).elsewhere.reshape(Y_test.shape)
    inputs = jnp.asarray(X_test, model.dtype)
    trained = np.asarray(_outputs(result.model, inputs) - _outputs(model, inputs), np.float64)
    return Linearised(
        case=case,
        distance=float(np.linalg.norm(trained - linear) / np.linalg.norm(trained)),
        trained=float(np.sum((trained - Y_test) ** 2) / np.sum(Y_test**2)),
        linear=float(np.sum((linear - Y_test) ** 2) / np.sum(Y_test**2)),
        converged=result.converged,
    )


@dataclass(frozen=True)
class Profile:
    """The sizes of the study: `tutorial()` runs in the chapter, `full()` on a larger machine."""

    seeds: tuple[int, ...]
    widths: tuple[int, ...]
    gammas: tuple[float, ...]
    scaling_widths: tuple[int, ...]
    scaling_samples: tuple[int, ...]
    scaling_seeds: tuple[int, ...]
    images: str = "digits"

    @classmethod
    def tutorial(cls) -> "Profile":
        """Minutes on one core."""
        return cls(
            seeds=(0, 1, 2),
            widths=(128, 256, 512, 1024, 2048),
            gammas=(1.0, 4.0, 8.0, 16.0, 32.0),
            scaling_widths=(16, 32, 64, 128, 256),
            scaling_samples=(16, 32, 64, 128, 256, 512),
            scaling_seeds=(0, 1, 2, 3, 4),
        )

    @classmethod
    def full(cls) -> "Profile":
        """Hours on one GPU, with MNIST."""
        return cls(
            seeds=tuple(range(10)),
            widths=tuple(2**n for n in range(5, 14)),
            gammas=tuple(2.0**n for n in range(-2, 8)),
            scaling_widths=tuple(2**n for n in range(4, 12)),
            scaling_samples=tuple(2**n for n in range(4, 15)),
            scaling_seeds=tuple(range(10)),
            images="mnist",
        )
