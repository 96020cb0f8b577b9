"""The answers of a hidden layer as a code for the classes."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dy33lib.pid.networks import InfomorphicNet, forward
from dy33lib.pid.training import check_images


def hidden_answers(
    net: InfomorphicNet, images: Float[Array, "N d"], key: Key[Array, ""]
) -> Float[Array, "N K"]:
    """What the hidden neurons answer without a label, +1 or -1, one image a row.

    Raises:
        ValueError: if the network has no hidden neurons, or the images do not fit.
    """
    if net.hidden is None:
        raise ValueError("the network has no hidden neurons")
    check_images(net, images, None)
    return _answers(net, images, key)


def codewords(
    answers: Float[Array, "N K"], labels: Int[Array, " N"], classes: int = 10
) -> Bool[Array, "k K"]:
    """For each class, whether a neuron answers +1 to more than half of its images.

    Raises:
        ValueError: if there is a class without an image.
    """
    members = jax.nn.one_hot(labels, classes, dtype=answers.dtype)
    if not bool(jnp.all(members.any(axis=0))):
        raise ValueError(f"labels must have images of all {classes} classes")
    return members.T @ answers > 0


def wrong_bits(words: Bool[Array, "k K"], answers: Float[Array, "N K"]) -> Int[Array, "N k"]:
    """In how many bits an answer differs from each codeword.

    The class with the fewest is the one that an error-correcting output code would name (Dietterich
    and Bakiri 1995, JAIR 2, 263).
    """
    return jnp.sum(words[None] != (answers > 0)[:, None], axis=2)


def dichotomies(words: Bool[Array, "k K"]) -> int:
    """In how many different ways neurons divide the classes in two, neither part empty."""
    turned = jnp.where(words[0], ~words, words)  # which answer is +1 does not matter
    return len({tuple(column) for column in turned.T.tolist() if any(column)})


@eqx.filter_jit
def _answers(net: InfomorphicNet, images: Array, key: Array) -> Float[Array, "N K"]:
    context = jnp.zeros((len(images), len(net.inverted)), images.dtype)
    return forward(net, images, context, key).answers.T
