"""The study of chapter 4: networks trained on real and made data, and their overlaps."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from dy33lib.datasets import load_vision
from dy33lib.hessian.curvature import Loss, Minimum, find_minimum, full_hessian
from dy33lib.hessian.networks import (
    ConvNet,
    DenseNet,
    Net,
    cross_entropy_loss,
    mse_loss,
    outputs,
    with_slope,
)
from dy33lib.hessian.spectra import overlap
from dy33lib.hessian.symmetries import gauge_generators, orbit_basis, rescaling_generators

Data = tuple[Float[Array, "n d"], Float[Array, "n k"]]


def gaussian_task(
    widths: tuple[int, ...], samples: int, *, noise: float = 0.1, slope: float, seed: int
) -> Data:
    """Normal inputs, and the outputs of a random teacher with noise.

    Args:
        widths: of the teacher.
        samples: their number.
        noise: standard deviation of what is added to each output.
        slope: of the teacher; 1 for a linear one.
        seed: of the teacher, the inputs and the noise.

    Raises:
        ValueError: if there are no samples, the noise is negative, or as in :class:`.DenseNet`.
    """
    if samples < 1 or not noise >= 0:
        raise ValueError(
            f"samples must be positive and noise not negative, got {samples} and {noise}"
        )
    rng = np.random.default_rng([4, seed])
    teacher = DenseNet(widths, slope=slope, key=jax.random.fold_in(jax.random.key(4), seed))
    X = jnp.asarray(rng.normal(size=(samples, widths[0])))
    Y = outputs(teacher, X)
    return X, Y + noise * jnp.asarray(rng.normal(size=Y.shape))


def digits_task(samples: int, components: int | None = None, *, seed: int) -> Data:
    """Handwritten digits and one-hot labels, centred, of mean squared length d.

    Args:
        samples: how many, drawn at random.
        components: principal components that are kept, so that every direction of the inputs is
            seen (some pixels never are); the pixels themselves if left out.
        seed: of the draw.

    Raises:
        ValueError: if there are not as many samples or components.
    """
    images = load_vision("digits")
    n, d = images.pixels.shape
    kept = d if components is None else components
    if not (1 <= samples <= n and 1 <= kept <= d):
        raise ValueError(
            f"samples must be 1 to {n} and components 1 to {d}, got {samples} and {kept}"
        )
    chosen = np.random.default_rng([4, seed]).permutation(n)[:samples]
    pixels = np.asarray(images.pixels)[chosen]
    X = pixels - pixels.mean(axis=0)
    if components is not None:
        X = X @ np.linalg.svd(X, full_matrices=False)[2][:kept].T
    X = X * np.sqrt(kept / np.mean(np.sum(X**2, axis=1)))
    return jnp.asarray(X), jnp.asarray(np.eye(10)[images.labels[chosen]])


def reduced_rank_loss(X: Float[Array, "n d"], Y: Float[Array, "n k"], rank: int) -> float:
    """Smallest squared error of any linear map of limited rank (Izenman 1975).

    What a deep linear network of that smallest width can reach, without training one.

    Raises:
        ValueError: if the rank is not positive.
    """
    if rank < 1:
        raise ValueError(f"rank must be positive, got {rank}")
    inputs, targets = np.asarray(X), np.asarray(Y)
    fitted = inputs @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
    lost = np.linalg.svd(fitted, compute_uv=False)[rank:]
    return float((np.sum((targets - fitted) ** 2) + np.sum(lost**2)) / (2 * len(inputs)))


@dataclass(frozen=True)
class Case:
    """One network that is trained and looked at.

    Attributes:
        task: "teacher" (squared error to a teacher of the same shape) or "digits" (cross-entropy).
        sizes: widths of a dense network, or channels of a convolutional one.
        convolutional: which of the two.
        slope: of the leaky ReLU.
        ridge: weight decay λ.
        samples: for training.
        steps: most iterations of the minimiser.
        seed: of the data and of the weights.
    """

    task: str
    sizes: tuple[int, ...]
    convolutional: bool = False
    slope: float = 0.0
    ridge: float = 0.0
    samples: int = 1500
    steps: int = 1000
    seed: int = 0


class Part(NamedTuple):
    """A spectrum and the overlaps of its eigenvectors with a subspace.

    Attributes:
        values: eigenvalues, ascending.
        overlaps: of the eigenvectors with the subspace.
        dim: dimension of the subspace.
    """

    values: Float[np.ndarray, " m"]
    overlaps: Float[np.ndarray, " m"]
    dim: int

    @property
    def chance(self) -> float:
        """What a subspace drawn at random would give."""
        return self.dim / len(self.values)


class Result(NamedTuple):
    """The Hessian of a trained network, and its symmetry space.

    Attributes:
        case: what was run.
        model: the trained network.
        minimum: how its training ended.
        vectors: orthonormal eigenvectors of the Hessian.
        all: the spectrum and the span of all mixings.
        broken: the same without the exact symmetries of a leaky ReLU: the Hessian in the
            orthogonal complement of the rescalings, and what the other mixings span there.
        control: the spectrum and a random subspace of the dimension of the first.
    """

    case: Case
    model: Net
    minimum: Minimum
    vectors: Float[np.ndarray, "P P"]
    all: Part
    broken: Part
    control: Part


def make_case(case: Case) -> tuple[Loss, Net, Data]:
    """The loss, the untrained network and the data of a case.

    Raises:
        ValueError: if the task is unknown, or as in the tasks and networks.
    """
    key = jax.random.fold_in(jax.random.key(0), case.seed)
    net = ConvNet if case.convolutional else DenseNet
    if case.task == "teacher":
        data = gaussian_task(case.sizes, case.samples, slope=case.slope, seed=case.seed)
        loss = Partial(mse_loss, X=data[0], Y=data[1], ridge=case.ridge)
    elif case.task == "digits":
        components = None if case.convolutional else case.sizes[0]
        data = digits_task(case.samples, components, seed=case.seed)
        loss = Partial(cross_entropy_loss, X=data[0], Y=data[1], ridge=case.ridge)
    else:
        raise ValueError(f"task must be 'teacher' or 'digits', got {case.task!r}")
    return loss, net(case.sizes, slope=case.slope, key=key), data


def run_case(case: Case) -> Result:
    """Train, take the full Hessian, and compare its eigenvectors with the symmetry space.

    Raises:
        ValueError: as in :func:`.make_case` and :func:`.full_hessian`.
    """
    loss, start, _ = make_case(case)
    model, minimum = find_minimum(loss, start, steps=case.steps, newton=10 if case.slope else 0)
    H = full_hessian(loss, model)
    values, vectors = np.linalg.eigh(H)
    basis = orbit_basis(gauge_generators(model)[0])
    exact = orbit_basis(rescaling_generators(model)[0])
    outside = np.linalg.qr(exact, mode="complete")[0][:, exact.shape[1] :]
    rest_values, rest_vectors = np.linalg.eigh(outside.T @ H @ outside)
    rest = np.linalg.svd(outside.T @ basis)[0][:, : basis.shape[1] - exact.shape[1]]
    rng = np.random.default_rng([44, case.seed])
    random = np.linalg.qr(rng.normal(size=basis.shape))[0]
    return Result(
        case,
        model,
        minimum,
        vectors,
        Part(values, overlap(vectors, basis), basis.shape[1]),
        Part(rest_values, overlap(rest_vectors, rest), rest.shape[1]),
        Part(values, overlap(vectors, random), basis.shape[1]),
    )


class Frame(NamedTuple):
    """The spectrum of one network at one slope."""

    slope: float
    values: Float[np.ndarray, " P"]
    overlaps: Float[np.ndarray, " P"]


def break_symmetry(
    model: DenseNet, X: Float[Array, "n d"], slopes: Float[np.ndarray, " m"]
) -> list[Frame]:
    """Spectra of one set of weights as the activation goes from linear to ReLU.

    At each slope its own outputs are the targets, so that it stands at a minimum without training:
    only the activation changes.

    Raises:
        ValueError: if a slope is not between 0 and 1.
    """
    basis = orbit_basis(gauge_generators(model)[0])
    frames = []
    for slope in slopes:
        bent = with_slope(model, float(slope))
        loss = Partial(mse_loss, X=X, Y=outputs(bent, X))
        values, vectors = np.linalg.eigh(full_hessian(loss, bent))
        frames.append(Frame(float(slope), values, overlap(vectors, basis)))
    return frames
