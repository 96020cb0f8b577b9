"""The study of chapter 3: digits, networks that learn them, and what is measured of them."""

import json
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from sklearn.linear_model import LogisticRegression

from dy33lib.datasets import Images
from dy33lib.pid.baselines import hebbian_weights, sign_features, train_backprop
from dy33lib.pid.goals import GOALS, Goal
from dy33lib.pid.networks import InfomorphicNet
from dy33lib.pid.training import Rates, Trained, evaluate, train

Labelled = tuple[Float[Array, "_ _"], Int[Array, " _"]]  # images, one a row, and their classes


class Split(NamedTuple):
    """Images and labels to learn from, to choose by, and to report on."""

    train: Labelled
    validation: Labelled
    test: Labelled


def split_images(images: Images, *, test: int, validation: int = 0, seed: int = 0) -> Split:
    """Images as the authors prepare them: one mean and one standard deviation for all pixels.

    Both are those of the images outside the test set. The test set does not depend on the seed:
    what is chosen on one split has not seen the test images of another.

    Args:
        images: from :func:`.load_vision`.
        test: number of test images.
        validation: number of validation images.
        seed: of the split between training and validation.

    Raises:
        ValueError: if a number is negative, there is no test image, or none is left to learn from.
    """
    if test < 1 or validation < 0 or test + validation >= len(images.pixels):
        raise ValueError(
            f"test must be positive, validation not negative and both together fewer than "
            f"{len(images.pixels)}, got {test} and {validation}"
        )
    order = np.random.default_rng(3).permutation(len(images.pixels))
    rest = np.random.default_rng([3, seed]).permutation(order[test:])
    scale = images.pixels[rest].mean(), images.pixels[rest].std()
    pixels = jnp.asarray((images.pixels - scale[0]) / scale[1], jnp.float32)
    parts = rest[validation:], rest[:validation], order[:test]
    return Split(*((pixels[part], jnp.asarray(images.labels[part])) for part in parts))


def study_key(seed: int, what: int) -> Array:
    """Random key of a seed.

    What: 0 for drawing a network, 1 for training, 2 for testing it, 3 for its code, 4 for other
    answers.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(3), seed), what)


class Tuned(NamedTuple):
    """What tuning and testing of one method gave.

    Attributes:
        setting: the one with the highest mean accuracy on validation images.
        validation: accuracies on validation images, one row a setting, one column a split.
        test: accuracies on test images with that setting, one a seed.
    """

    setting: dict[str, float]
    validation: Float[np.ndarray, "s v"]
    test: Float[np.ndarray, " seeds"]


def tuned(kept: dict[str, np.ndarray], method: str) -> Tuned:
    """Choose the setting of a method by the validation images of a shipped study.

    Args:
        kept: from :func:`.load_shipped`.
        method: one of its `methods`.

    Raises:
        ValueError: if there is no such method.
    """
    methods = kept["methods"].tolist()
    if method not in methods:
        raise ValueError(f"no method {method!r}; there are {', '.join(methods)}")
    number = methods.index(method)
    validation = kept[f"validation_{number}"]
    best = int(validation.mean(axis=1).argmax())
    setting = json.loads(str(kept[f"settings_{number}"][best]))
    return Tuned(setting, validation, kept[f"test_{number}"])


class Size(NamedTuple):
    """How large a study is.

    Attributes:
        neurons: in the hidden layer.
        epochs: how often all images are shown.
        batches: how many batches make an epoch.
        laterals: neighbours of a hidden neuron; None for all others.
        draws: how often test images are shown; accuracies are means over these.
    """

    neurons: int = 100
    epochs: int = 120
    batches: int = 4
    laterals: int | None = None
    draws: int = 4


DIGITS = Size()


def train_local(
    train_on: Labelled,
    aim: Goal,
    rates: Rates,
    *,
    seed: int,
    size: Size = DIGITS,
    every: int | None = None,
    monitor: Labelled | None = None,
) -> Trained:
    """Draw a network and train it by local goals.

    Args:
        train_on: images and labels.
        aim: goal of the hidden neurons, which also says what they see.
        rates: step sizes and weight decays.
        seed: of weights, batches and answers.
        size: of the study.
        every: epochs between records; only one, at the end, if left out.
        monitor: images and labels for the recorded accuracy; the first hundred of train_on if
            left out.
    """
    images, labels = train_on
    net = InfomorphicNet(
        images.shape[1],
        size.neurons,
        sources=aim.sources,
        laterals=size.laterals if "lateral" in aim.sources else None,
        key=study_key(seed, 0),
    )
    return train(
        net,
        images,
        labels,
        aim=aim,
        rates=rates,
        epochs=size.epochs,
        batch=len(images) // size.batches,
        every=every or size.epochs,
        monitor=monitor or (images[:100], labels[:100]),
        key=study_key(seed, 1),
    )


def mean_accuracy(net: InfomorphicNet, shown: Labelled, *, seed: int, draws: int) -> float:
    """Share of images recognised, a mean over several draws of the random answers."""
    keys = [jax.random.fold_in(study_key(seed, 2), draw) for draw in range(draws)]
    return float(np.mean([evaluate(net, *shown, key) for key in keys]))


def local_accuracy(
    train_on: Labelled, shown: Labelled, aim: Goal, rates: Rates, *, seed: int, size: Size = DIGITS
) -> float:
    """Accuracy of a network trained by local goals on other images."""
    net = train_local(train_on, aim, rates, seed=seed, size=size).net
    return mean_accuracy(net, shown, seed=seed, draws=size.draws)


def backprop_accuracy(
    train_on: Labelled,
    shown: Labelled,
    *,
    rate: float,
    decay: float,
    deterministic: bool,
    seed: int,
    size: Size = DIGITS,
) -> float:
    """Accuracy of the same network trained by backpropagation, on other images."""
    images, labels = train_on
    net = InfomorphicNet(
        images.shape[1],
        size.neurons,
        laterals=size.laterals,
        deterministic=deterministic,
        key=study_key(seed, 0),
    )
    batch = len(images) // size.batches
    net = train_backprop(
        net, images, labels, rate=rate, decay=decay, epochs=size.epochs, batch=batch,
        key=study_key(seed, 1),
    )  # fmt: skip
    return mean_accuracy(net, shown, seed=seed, draws=1 if deterministic else size.draws)


Features = Callable[[Float[Array, "n d"]], Float[Array, "n f"]]


def readout_accuracy(
    train_on: Labelled,
    shown: Labelled,
    features: Features,
    *,
    rate: float,
    decay: float,
    seed: int,
    size: Size = DIGITS,
) -> float:
    """Accuracy of output neurons that pursue their published goal on given features."""
    rates = Rates(output=rate, output_decay=decay)
    seen = features(train_on[0])
    size = size._replace(neurons=0)
    trained = train_local((seen, train_on[1]), GOALS["heuristic"], rates, seed=seed, size=size)
    return mean_accuracy(trained.net, (features(shown[0]), shown[1]), seed=seed, draws=1)


def pixels(images: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """The images themselves, for a readout without hidden neurons."""
    return images


def frozen_features(width: int, *, seed: int, size: Size = DIGITS) -> Features:
    """Signs of an untrained hidden layer."""
    net = InfomorphicNet(width, size.neurons, key=study_key(seed, 0))
    return lambda images: sign_features(net, images)


def hebbian_features(
    images: Float[Array, "n d"],
    *,
    rate: float,
    temperature: float,
    graded: bool,
    seed: int,
    size: Size = DIGITS,
) -> Features:
    """What neurons say that have learned by the Hebbian rule.

    Args:
        images: to learn from.
        rate: step size.
        temperature: of the competition.
        graded: how far each activity is from its mean, over the standard deviation of all,
            instead of whether it is above, as +1 and -1.
        seed: of weights and batches.
        size: of the study.
    """
    weights = hebbian_weights(
        images,
        size.neurons,
        rate=rate,
        temperature=temperature,
        epochs=size.epochs,
        batch=len(images) // (4 * size.batches),
        key=study_key(seed, 1),
    )

    def activity(images: Float[Array, "n d"]) -> Float[Array, "n K"]:
        return images @ weights.T / jnp.linalg.norm(images, axis=1, keepdims=True)

    mean, scale = activity(images).mean(axis=0), activity(images).std()

    def features(images: Float[Array, "n d"]) -> Float[Array, "n K"]:
        above = activity(images) - mean
        return above / scale if graded else jnp.where(above > 0, 1, -1).astype(images.dtype)

    return features


def logistic_accuracy(train_on: Labelled, shown: Labelled, *, C: float) -> float:
    """Accuracy of logistic regression on the pixels (scikit-learn)."""
    fitted = LogisticRegression(C=C, max_iter=5000).fit(*train_on)
    return float(fitted.score(*shown))
