"""Run chapter 4 at real scale: networks of 410,880 weights on CIFAR-10.

    DY33_DATA=folder python scripts/make_hessian_vision.py    # about 50 min on one core

Trains ReLU networks 3072-128-128-10 of three seeds on 6,000 images with weight decay, and takes the
spectral densities of their Hessians, once from the whole space and once from the symmetry space.
Writes `dy33lib/data/hessian_vision.npz`.
"""

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.tree_util import Partial  # noqa: E402

from dy33lib.datasets import Images, load_vision, vision_task  # noqa: E402
from dy33lib.hessian import (  # noqa: E402
    DenseNet,
    cross_entropy_loss,
    find_minimum,
    outputs,
    parameters,
    project_gauge,
    spectral_density,
    with_parameters,
)

TARGET = Path(__file__).resolve().parent.parent / "dy33lib" / "data" / "hessian_vision.npz"
WIDTHS, SEEDS = (3072, 128, 128, 10), (0, 1, 2)
RIDGE, TRAIN, TEST, STEPS = 1e-2, 6000, 1000, 600
PROBES, LANCZOS = 1, 800
COLUMNS = (
    "seed", "start", "loss", "gradient", "length", "steps", "train_accuracy", "test_accuracy",
    "dimension", "residual",
)  # fmt: skip


def single(product: Callable, v):
    """A product in single precision: four times as fast, and exact to 1e-6 of the largest."""
    return product(v.astype(jnp.float32)).astype(float)


def run(
    images: Images, widths=WIDTHS, seed=0, *, train=TRAIN, test=TEST, steps=STEPS, lanczos=LANCZOS
) -> dict[str, np.ndarray]:
    """Train one network and take its two densities; eigenvalues are in units of the ridge."""
    task = vision_task(images, train=train, test=test, rng=np.random.default_rng(seed))
    X, Y = (jnp.asarray(a) for a in task.train)
    Y = Y + 1 / Y.shape[1]  # one at the class, zero elsewhere
    loss = Partial(cross_entropy_loss, X=X, Y=Y, ridge=RIDGE)
    start = DenseNet(widths, slope=0.0, key=jax.random.key(seed))
    model, info = find_minimum(loss, start, steps=steps, newton=0, tol=1e-6)
    theta = parameters(model)
    hits = [
        float(np.mean(np.argmax(outputs(model, jnp.asarray(x)), 1) == y.argmax(1)))
        for x, y in (task.train, task.test)
    ]
    key = jax.random.key(seed)
    # the squared length of a projected normal vector is the dimension of the symmetry space
    shadow = project_gauge(model, jax.random.normal(key, theta.shape), steps=3000, tol=1e-8)
    dimension = float(shadow.vector @ shadow.vector)
    numbers = [seed, float(loss(start)), info.loss, info.gradient, float(jnp.linalg.norm(theta))]
    numbers += [info.steps, *hits, dimension, float(shadow.residual)]
    result = {"runs": np.array(numbers)}

    small = jax.tree.map(lambda w: w.astype(jnp.float32), model)
    loss = Partial(
        cross_entropy_loss,
        X=X.astype(jnp.float32),
        Y=Y.astype(jnp.float32),
        ridge=jnp.asarray(RIDGE, jnp.float32),
    )
    _, product = jax.linearize(
        jax.grad(lambda v: loss(with_parameters(small, v))), parameters(small)
    )

    def project(v):
        found = project_gauge(model, v, steps=3000, tol=1e-8)
        if not float(found.residual) < 1e-6:
            raise RuntimeError(f"the projection stopped at a residual of {found.residual:.1e}")
        return found.vector

    for number, (name, projector) in enumerate((("symmetry", project), ("all", None))):
        density = spectral_density(
            Partial(single, product), theta.size, probes=PROBES, steps=lanczos, project=projector,
            reorthogonalise=False, key=jax.random.fold_in(key, number),
        )  # fmt: skip
        result[f"{name}_nodes"] = density.nodes / RIDGE
        result[f"{name}_weights"] = density.weights
    return result


def main() -> None:
    """Run all seeds and write the file."""
    images, results = load_vision("cifar10"), []
    for seed in SEEDS:
        started = time.process_time()
        results.append(run(images, seed=seed))
        numbers = dict(zip(COLUMNS, results[-1]["runs"], strict=True))
        text = " ".join(f"{k} {v:.4g}" for k, v in numbers.items())
        print(f"{time.process_time() - started:.0f} s: {text}", flush=True)
    arrays = {key: np.stack([r[key] for r in results]) for key in results[0]}
    arrays |= {"columns": np.array(COLUMNS), "widths": np.array(WIDTHS), "ridge": np.array(RIDGE)}
    np.savez_compressed(TARGET, **arrays)  # pyright: ignore[reportArgumentType]
    print(hashlib.sha256(TARGET.read_bytes()).hexdigest(), TARGET.name, file=sys.stderr)


if __name__ == "__main__":
    main()
