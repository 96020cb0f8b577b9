"""Tangent kernels: at infinite width, layer by layer at finite width, and by brute force."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, PyTree

from dy33lib.ntk._checks import check_inputs, check_positive, root
from dy33lib.ntk.network import ACTIVATIONS, MLP


def infinite_ntk(
    X: Num[Array | np.ndarray, "m d"],
    Y: Num[Array | np.ndarray, "n d"] | None = None,
    *,
    depth: int = 1,
    activation: str = "relu",
    gamma: float = 1.0,
) -> Float[Array, "m n"]:
    r"""Tangent kernel of an infinitely wide `MLP`, for each of its outputs.

    The recursion of Jacot et al. (2018), theorem 1, with the Gaussian averages of
    `ACTIVATIONS`: :math:`\Theta_{l+1} = \Sigma_{l+1} + \Theta_l \circ \dot\Sigma_{l+1}`.

    Args:
        X: inputs, shape (m, d).
        Y: second set of inputs, shape (n, d); `X` if left out.
        depth: number of hidden layers.
        activation: as in `MLP`.
        gamma: as in `MLP`.

    Returns:
        The kernel, shape (m, n), float64. The outputs are independent and alike, so that a sum
        over k outputs, as in :func:`.empirical_ntk`, tends to k times this.

    Raises:
        ValueError: for empty or unequal inputs, depth below 1, gamma not positive, an unknown
            activation, or when JAX runs without float64 (near the diagonal the arc cosine
            loses half the digits, and float32 has too few).
    """
    check_positive("gamma", gamma)
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {activation!r}")
    if not jax.config.read("jax_enable_x64"):
        raise ValueError("infinite_ntk needs float64: jax.config.update('jax_enable_x64', True)")
    X = check_inputs(X, X.shape[-1], jnp.float64)
    Y = X if Y is None else check_inputs(Y, X.shape[-1], jnp.float64, "Y")
    moments = ACTIVATIONS[activation].moments
    d = X.shape[1]
    q_x, q_y = jnp.sum(X * X, axis=1) / d, jnp.sum(Y * Y, axis=1) / d
    sigma = theta = X @ Y.T / d
    for _ in range(depth):
        sigma, slopes = moments(q_x[:, None], sigma, q_y[None, :])
        theta = sigma + theta * slopes
        q_x, q_y = moments(q_x, q_x, q_x)[0], moments(q_y, q_y, q_y)[0]
    return theta / gamma**2


def empirical_ntk(
    model: MLP,
    X: Num[Array | np.ndarray, "m d"],
    Y: Num[Array | np.ndarray, "n d"] | None = None,
    *,
    trace: bool = True,
) -> Float[Array, "m n"] | Float[Array, "m n k k"]:
    r"""Tangent kernel of a finite `MLP`, layer by layer, without forming a Jacobian.

    The gradient with respect to the weights of one layer is the outer product of the backward
    signal :math:`\delta = \partial f / \partial h` and the layer's input :math:`z`, so each layer
    adds :math:`(\delta\cdot\delta')(z\cdot z')`. With the trace over outputs, the last hidden
    layer needs only :math:`\sum_n (\sum_a W_{an}^2)\,\phi'(h_n)\,\phi'(h'_n)`: k times less work.

    Args:
        model: the network.
        X: inputs, shape (m, d).
        Y: second set of inputs, shape (n, d); `X` if left out.
        trace: sum over the k outputs, or keep them.

    Returns:
        Shape (m, n) with the trace, else (m, n, k, k), in the precision of the weights.

    Raises:
        TypeError: if the model is not an `MLP`; see :func:`.empirical_ntk_generic`.
        ValueError: if the inputs are empty or have the wrong feature dimension.
    """
    if not isinstance(model, MLP):
        raise TypeError(f"expected an MLP, got {type(model).__name__}: use empirical_ntk_generic")
    X = check_inputs(X, model.in_size, model.dtype)
    Y = None if Y is None else check_inputs(Y, model.in_size, model.dtype, "Y")
    return _layerwise_ntk(model, X, Y, trace)


@eqx.filter_jit
def _layerwise_ntk(model: MLP, X: Array, Y: Array | None, trace: bool) -> Array:
    act = ACTIVATIONS[model.activation]
    last = model.weights[-1]
    symmetric = Y is None

    def forward(inputs):
        """Layer inputs, and slopes at each hidden layer, for a batch (rows are samples)."""
        signals, slopes = [inputs], []
        for w in model.weights[:-1]:
            h = signals[-1] @ w.T / root(w.shape[1])
            signals.append(act.value(h))
            slopes.append(act.slope(h))
        return signals, slopes

    z_x, s_x = forward(X)
    z_y, s_y = (z_x, s_x) if symmetric else forward(Y)
    readout = last / (root(last.shape[1]) * model.gamma)  # (k, N)
    eye = jnp.eye(model.out_size, dtype=last.dtype)
    gram = z_x[-1] @ z_y[-1].T / (last.shape[1] * model.gamma**2)
    kernel = gram * model.out_size if trace else gram[:, :, None, None] * eye[None, None]

    def backward(delta, w, slope):
        """One layer down: (m, k, N_out) -> (m, k, N_in), the slopes included."""
        return jnp.einsum("mki,ij->mkj", delta, w) / root(w.shape[1]) * slope[:, None, :]

    d_x = d_y = jnp.zeros(())
    for level in range(len(model.weights) - 2, -1, -1):
        w = model.weights[level]
        gram = z_x[level] @ z_y[level].T / w.shape[1]
        top = level == len(model.weights) - 2
        if top and trace:
            overlap = (s_x[level] * jnp.sum(readout**2, axis=0, keepdims=True)) @ s_y[level].T
            kernel = kernel + gram * overlap
            if level == 0:
                break
        if top:
            d_x = readout[None] * s_x[level][:, None, :]
            d_y = d_x if symmetric else readout[None] * s_y[level][:, None, :]
        else:
            d_x = backward(d_x, model.weights[level + 1], s_x[level])
            d_y = d_x if symmetric else backward(d_y, model.weights[level + 1], s_y[level])
        if trace and not top:
            kernel = kernel + gram * (
                d_x.reshape(d_x.shape[0], -1) @ d_y.reshape(d_y.shape[0], -1).T
            )
        elif not trace:
            kernel = kernel + gram[:, :, None, None] * jnp.einsum("man,pbn->mpab", d_x, d_y)
    return kernel


def empirical_ntk_generic(
    function: Callable[[PyTree, Array], Float[Array, " k"]],
    params: PyTree,
    X: Float[Array, "m *shape"],
    Y: Float[Array, "n *shape"] | None = None,
    *,
    trace: bool = True,
) -> Float[Array, "m n"] | Float[Array, "m n k k"]:
    """Tangent kernel of any differentiable function, by contracting its Jacobian.

    The plain definition, for any architecture; it needs memory for m x k x (number of parameters).

    Args:
        function: `function(params, x) -> (k,)` for one input x.
        params: what to differentiate; its inexact arrays count, the rest is kept.
        X: inputs, shape (m, ...).
        Y: second set of inputs, shape (n, ...); `X` if left out.
        trace: sum over the k outputs, or keep them.

    Returns:
        Shape (m, n) with the trace, else (m, n, k, k).

    Raises:
        ValueError: if there are no inputs, or no parameters.
    """
    if X.shape[0] == 0 or (Y is not None and Y.shape[0] == 0):
        raise ValueError("expected at least one input, got an empty batch")
    moving, fixed = eqx.partition(params, eqx.is_inexact_array)
    if not jax.tree.leaves(moving):
        raise ValueError("params holds no array to differentiate")

    @jax.jit
    def jacobian(inputs):
        one = jax.jacrev(lambda p, x: function(eqx.combine(p, fixed), x))
        leaves = jax.tree.leaves(jax.vmap(one, (None, 0))(moving, inputs))
        flat = [leaf.reshape(leaf.shape[0], leaf.shape[1], -1) for leaf in leaves]
        return jnp.concatenate(flat, axis=-1)  # (m, k, parameters)

    j_x = jacobian(X)
    j_y = j_x if Y is None else jacobian(Y)
    return jnp.einsum("map,nap->mn" if trace else "map,nbp->mnab", j_x, j_y)
