import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from dy33lib import ntk

KEY = jax.random.key(0)


def unit_inputs(rng, m, d):
    X = rng.normal(size=(m, d))
    return X * np.sqrt(d) / np.linalg.norm(X, axis=1, keepdims=True)


def net(widths=(6, 9, 3), dtype=jnp.float64, **options):
    return ntk.MLP(widths, key=KEY, dtype=dtype, **options)


def generic(model, X, Y=None, trace=False):
    def output(weights, x):
        return eqx.tree_at(lambda m: m.weights, model, weights)(x)

    return ntk.empirical_ntk_generic(
        output, model.weights, jnp.asarray(X), None if Y is None else jnp.asarray(Y), trace=trace
    )


# The network -----------------------------------------------------------------------------------


def test_output_is_the_formula(rng):
    model = net((6, 9, 3), gamma=2.5)
    x = jnp.asarray(rng.normal(size=6))
    w, a = (np.asarray(v) for v in model.weights)
    hidden = np.sqrt(2) * np.maximum(w @ np.asarray(x) / np.sqrt(6), 0)
    np.testing.assert_allclose(model(x), a @ hidden / (2.5 * np.sqrt(9)), rtol=1e-13)


def test_weights_are_standard_normal_and_depend_on_the_key():
    weights = np.concatenate([w.ravel() for w in net((64, 512, 512, 10)).weights])
    n = weights.size
    assert abs(weights.mean()) < 5 / np.sqrt(n)
    assert abs(weights.var() - 1) < 5 * np.sqrt(2 / n)
    # neighbouring blocks of the draw are independent
    first, second = weights[: 2**14], weights[2**14 : 2**15]
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / 2**7
    other = ntk.MLP((64, 512, 512, 10), key=jax.random.key(1), dtype=jnp.float64)
    assert not np.any(np.isclose(other.weights[0], net((64, 512, 512, 10)).weights[0], atol=1e-12))


def test_antisymmetric_network_starts_at_zero_with_the_same_kernel(rng):
    X = unit_inputs(rng, 4, 6)
    model = net((6, 10, 3), antisymmetric=True)
    np.testing.assert_allclose(jax.vmap(model)(jnp.asarray(X)), 0, atol=1e-14)
    assert ntk.kernel_trace(ntk.empirical_ntk(model, X)) > 0


@pytest.mark.parametrize("name", sorted(ntk.ACTIVATIONS))
def test_activation_slopes_and_gain(name):
    act = ntk.ACTIVATIONS[name]
    h = jnp.linspace(-3.0, 3.0, 40)  # does not hit the kink at 0
    slopes = jax.vmap(jax.grad(lambda v: act.value(v)))(h)
    np.testing.assert_allclose(act.slope(h), slopes, rtol=1e-12, atol=1e-14)
    u = np.linspace(-12, 12, 20001)
    square = np.trapezoid(np.asarray(act.value(jnp.asarray(u))) ** 2 * np.exp(-(u**2) / 2), u)
    assert square / np.sqrt(2 * np.pi) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (6, 3)}, "hidden"),
        ({"widths": (6, 0, 3)}, "all >= 1"),
        ({"gamma": 0.0}, "gamma must be positive, got 0.0"),
        ({"gamma": -1.0}, "gamma must be positive, got -1.0"),
        ({"gamma": float("nan")}, "gamma must be positive"),
        ({"activation": "swish"}, "got 'swish'"),
        ({"widths": (6, 9, 3), "antisymmetric": True}, "even width"),
        ({"widths": (6, 8, 8, 3), "antisymmetric": True}, "one hidden layer"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        net(**options)


@pytest.mark.usefixtures("unchecked")
def test_call_refuses_a_wrong_input():
    with pytest.raises(ValueError, match=re.escape("expected x of shape (6,), got (5,)")):
        net()(jnp.ones(5))


# Kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize("activation", sorted(ntk.ACTIVATIONS))
def test_layerwise_kernel_is_the_jacobian_contraction(rng, depth, outputs, activation):
    check_layerwise(rng, depth, outputs, activation, jnp.float64, 1e-11)


def test_layerwise_kernel_in_single_precision(rng):
    check_layerwise(rng, 2, 10, "relu", jnp.float32, 1e-5)


def check_layerwise(rng, depth, outputs, activation, dtype, tolerance):
    # Unequal widths, and a second set of inputs: a transposed or missing layer cannot hide.
    hidden = (7, 11, 5)[:depth]
    model = net((6, *hidden, outputs), gamma=1.7, activation=activation, dtype=dtype)
    X, Y = (rng.normal(size=(m, 6)).astype(dtype) for m in (4, 3))
    for second in (None, Y):
        full = np.asarray(generic(model, X, second))
        scale = np.abs(full).max()
        kept = ntk.empirical_ntk(model, X, second, trace=False)
        np.testing.assert_allclose(kept, full, atol=tolerance * scale, rtol=0)
        traced = ntk.empirical_ntk(model, X, second)
        expected = np.einsum("mnaa->mn", full)
        np.testing.assert_allclose(traced, expected, atol=tolerance * outputs * scale, rtol=0)
        assert kept.dtype == traced.dtype == dtype


def test_layerwise_kernel_at_the_size_of_the_study():
    # Once, on jax 0.4.30, a jitted contraction was wrong at just this size and right at small ones.
    model = net((64, 256, 10), dtype=jnp.float32)
    X = jax.random.normal(KEY, (128, 64), jnp.float32)
    exact = net((64, 256, 10))
    exact = eqx.tree_at(
        lambda m: m.weights, exact, tuple(w.astype(jnp.float64) for w in model.weights)
    )
    np.testing.assert_allclose(
        ntk.empirical_ntk(model, X), ntk.empirical_ntk(exact, X), rtol=2e-5, atol=1e-3
    )


# The activations in SciPy's words, for integrals that share nothing with the library.
PLAIN = {
    "relu": (lambda h: np.sqrt(2) * max(h, 0.0), lambda h: np.sqrt(2) * (h > 0)),
    "erf": (
        lambda h: special.erf(h) / np.sqrt(2 / np.pi * np.arcsin(2 / 3)),
        lambda h: 2 / np.sqrt(np.pi) * np.exp(-h * h) / np.sqrt(2 / np.pi * np.arcsin(2 / 3)),
    ),
}


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("covariance", [(1.0, 0.3, 1.0), (0.7, -0.4, 1.9), (1.0, 0.95, 1.0)])
def test_gaussian_moments_are_the_integrals(activation, covariance):
    q11, q12, q22 = covariance
    a, b = np.sqrt(q11), q12 / np.sqrt(q11)
    c = np.sqrt(q22 - b**2)

    def moment(function):
        # u = a s, v = b s + c t. The ReLU's kinks lie at s = 0 and t = -b s / c.
        def inner(s):
            def integrand(t):
                return function(a * s) * function(b * s + c * t) * np.exp(-(s * s + t * t) / 2)

            kink = float(np.clip(-b * s / c, -8.5, 8.5))
            return sum(
                integrate.quad(integrand, *ends, epsabs=1e-9)[0] for ends in ((-9, kink), (kink, 9))
            )

        total = sum(integrate.quad(inner, *ends, epsabs=1e-8)[0] for ends in ((-9, 0), (0, 9)))
        return total / (2 * np.pi)

    moments = ntk.ACTIVATIONS[activation].moments(*(jnp.asarray(q) for q in covariance))
    for mine, function in zip(moments, PLAIN[activation], strict=True):
        assert float(mine) == pytest.approx(moment(function), abs=1e-6)


@pytest.mark.parametrize("activation", ["relu", "erf", "linear"])
@pytest.mark.parametrize("depth", [1, 2])
def test_wide_networks_tend_to_the_infinite_one(rng, activation, depth):
    """The deviation falls as N^-1/2; over 12 keys the exponent scatters by about 0.03."""
    X = unit_inputs(rng, 12, 20)
    limit = ntk.infinite_ntk(X, depth=depth, activation=activation, gamma=2.0)
    widths = (64, 256, 1024)
    deviation = [
        np.sqrt(
            np.mean(
                [
                    ntk.relative_change(
                        limit,
                        ntk.empirical_ntk(
                            ntk.MLP(
                                (20,) + (n,) * depth + (5,), gamma=2.0, activation=activation,
                                dtype=jnp.float64, key=jax.random.key(seed),
                            ),
                            X,
                        )
                        / 5,
                    )
                    ** 2
                    for seed in range(12)
                ]
            )
        )
        for n in widths
    ]  # fmt: skip
    assert ntk.power_law_fit(widths, deviation).exponent == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_mean_over_networks_is_the_infinite_one(rng, activation):
    """With one hidden layer this holds at every width.

    50 networks of width 2048 leave a relative distance of about 0.006; a limit that is 2 % off
    gives 0.021.
    """
    X = unit_inputs(rng, 12, 20)
    mean = np.mean(
        [
            ntk.empirical_ntk(
                ntk.MLP((20, 2048, 5), activation=activation, key=jax.random.key(seed)), X
            )
            for seed in range(50)
        ],
        axis=0,
    )
    assert ntk.relative_change(ntk.infinite_ntk(X, activation=activation), mean / 5) < 0.012


def test_infinite_kernel_of_two_sets_is_a_block(rng):
    X = unit_inputs(rng, 7, 5)
    whole = ntk.infinite_ntk(X, depth=3)
    np.testing.assert_allclose(ntk.infinite_ntk(X[:3], X[3:], depth=3), whole[:3, 3:], rtol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_kernels_refuse_bad_input(rng):
    X = rng.normal(size=(3, 6))
    with pytest.raises(TypeError, match="empirical_ntk_generic"):
        ntk.empirical_ntk(lambda x: x, X)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=re.escape("(samples, 6), got (3, 5)")):
        ntk.empirical_ntk(net(), X[:, :5])
    with pytest.raises(ValueError, match="at least one input"):
        ntk.empirical_ntk(net(), X[:0])
    with pytest.raises(ValueError, match="expected Y"):
        ntk.empirical_ntk(net(), X, X[:, :4])
    with pytest.raises(ValueError, match="empty batch"):
        generic(net(), X[:0])
    with pytest.raises(ValueError, match="no array"):
        ntk.empirical_ntk_generic(lambda p, x: x, None, jnp.asarray(X))
    with pytest.raises(ValueError, match="depth must be at least 1"):
        ntk.infinite_ntk(X, depth=0)
    with pytest.raises(ValueError, match="gamma must be positive"):
        ntk.infinite_ntk(X, gamma=0.0)
    with pytest.raises(ValueError, match="got 'swish'"):
        ntk.infinite_ntk(X, activation="swish")
    with pytest.raises(ValueError, match="at least one input"):
        ntk.infinite_ntk(X[:0])


def test_infinite_kernel_refuses_single_precision(rng):
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="float64"):
            ntk.infinite_ntk(rng.normal(size=(3, 6)))
    finally:
        jax.config.update("jax_enable_x64", True)


# Observables -----------------------------------------------------------------------------------


def test_entropy_of_known_spectra():
    assert ntk.kernel_entropy(np.eye(5)) == pytest.approx(np.log(5), abs=1e-12)
    assert ntk.kernel_entropy(np.eye(5), effective=True) == pytest.approx(1, abs=1e-12)
    assert ntk.kernel_entropy(np.ones((4, 4))) == pytest.approx(0, abs=1e-12)
    assert ntk.kernel_entropy(np.diag([3.0, 1.0])) == pytest.approx(
        -0.75 * np.log(0.75) - 0.25 * np.log(0.25), abs=1e-12
    )


def test_observables_do_not_depend_on_the_basis(rng):
    A = rng.normal(size=(6, 6))
    K = A @ A.T
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    rotated = Q @ K @ Q.T
    assert ntk.kernel_trace(rotated) == pytest.approx(ntk.kernel_trace(K), rel=1e-12)
    assert ntk.kernel_entropy(rotated) == pytest.approx(ntk.kernel_entropy(K), rel=1e-10)
    assert ntk.kernel_alignment(K, K) == pytest.approx(1)
    assert ntk.kernel_alignment(K, 3 * K) == pytest.approx(1)
    assert ntk.relative_change(K, 3 * K) == pytest.approx(2)
    assert ntk.label_alignment(A @ A.T, A) == pytest.approx(1)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.ones((2, 3)), "square"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "symmetric"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
        (-np.eye(2), "positive trace"),
    ],
)
@pytest.mark.parametrize(
    "observable",
    [
        ntk.kernel_trace,
        ntk.kernel_entropy,
        lambda K: ntk.relative_change(K, K),
        lambda K: ntk.relative_change(np.eye(len(K)), K),
        lambda K: ntk.kernel_alignment(K, K),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_observables_refuse_what_is_no_kernel(observable, kernel, message):
    with pytest.raises(ValueError, match=message):
        observable(kernel)


@pytest.mark.usefixtures("unchecked")
def test_pairs_of_kernels_must_match():
    with pytest.raises(ValueError, match="differ in shape"):
        ntk.relative_change(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="differ in shape"):
        ntk.kernel_alignment(np.eye(2), np.eye(3))
    with pytest.raises(ValueError, match="expected Y"):
        ntk.label_alignment(np.eye(3), np.ones((2, 1)))


# The solved network ----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [4, 64, 1024])
@pytest.mark.parametrize("gamma", [1.0, 4.0])
@pytest.mark.parametrize("y", [3.0, -0.7])
def test_closed_form_is_gradient_flow(rng, width, gamma, y):
    a, w = rng.normal(size=(2, width))
    exact = ntk.two_layer_linear_flow(a, w, y, gamma)
    numeric = ntk.simulate_two_layer_linear_flow(a, w, y, gamma)
    np.testing.assert_allclose(numeric, exact, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 7.0])
def test_transition_of_the_linear_network(gamma):
    # P = M = 2N exactly: the kernel grows by sqrt(1 + gamma^2 y^2 / N).
    a = np.array([1.0, 1.0]) / 1.0
    w = np.array([1.0, -1.0])
    y = 1.3
    flow = ntk.two_layer_linear_flow(a, w, y, gamma)
    assert 1 + flow.change == pytest.approx(np.sqrt(1 + gamma**2 * y**2 / 2), rel=1e-12)
    for ratio in (0.1, 1.0):
        n = ntk.fkt_width_linear(y, gamma, ratio)
        assert np.sqrt(1 + gamma**2 * y**2 / n) - 1 == pytest.approx(ratio)
    assert ntk.fkt_width_linear(y, gamma) == pytest.approx(gamma**2 * y**2 / 3)


@pytest.mark.usefixtures("unchecked")
def test_linear_network_refuses_bad_input():
    one = np.ones(3)
    with pytest.raises(ValueError, match="one shape"):
        ntk.two_layer_linear_flow(one, np.ones(2), 1.0, 1.0)
    with pytest.raises(ValueError, match="one shape"):
        ntk.two_layer_linear_flow(one[:0], one[:0], 1.0, 1.0)
    with pytest.raises(ValueError, match=r"gamma must be positive, got 0\.0"):
        ntk.two_layer_linear_flow(one, one, 1.0, 0.0)
    with pytest.raises(ValueError, match="gamma must be positive"):
        ntk.simulate_two_layer_linear_flow(one, one, 1.0, -1.0)
    with pytest.raises(ValueError, match="ratio must be positive"):
        ntk.fkt_width_linear(1.0, 1.0, 0.0)


# Training --------------------------------------------------------------------------------------


def toy_task(rng, m=12, d=6, k=2):
    X = unit_inputs(rng, m, d)
    return X, rng.normal(size=(m, k))


def loop(model, X, Y, lr, momentum, steps):
    """Heavy-ball descent written out in NumPy-like steps, for comparison."""
    X, Y = jnp.asarray(X), jnp.asarray(Y)
    kernel = np.asarray(ntk.empirical_ntk(model, X)) / model.out_size
    rate = lr * len(X) / np.linalg.eigvalsh(kernel)[-1]
    start = jax.vmap(model)(X)

    def loss(weights):
        f = jax.vmap(eqx.tree_at(lambda m: m.weights, model, weights))(X)
        return jnp.mean(jnp.sum((f - start - Y) ** 2, axis=1)) / 2

    both = jax.jit(jax.value_and_grad(loss))
    weights = model.weights
    velocity = jax.tree.map(jnp.zeros_like, weights)
    losses = [float(both(weights)[0])]
    for _ in range(steps):
        gradient = both(weights)[1]
        velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
        weights = jax.tree.map(lambda w, v: w - rate * v, weights, velocity)
        losses.append(float(both(weights)[0]))
    return weights, np.array(losses) / losses[0]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_takes_the_steps_it_says(rng, momentum):
    X, Y = toy_task(rng)
    model = net((6, 8, 2), gamma=2.0)
    result = ntk.train_full_batch(model, X, Y, lr=0.2, momentum=momentum, tol=1e-9, max_steps=7)
    weights, losses = loop(model, X, Y, 0.2, momentum, 7)
    assert (result.steps, result.converged) == (7, False)
    assert result.loss == pytest.approx(losses[-1], rel=1e-10)
    for mine, theirs in zip(result.model.weights, weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)


def test_training_stops_at_the_first_loss_below_the_goal(rng):
    X, Y = toy_task(rng)
    model = net((6, 40, 2), gamma=2.0)
    result = ntk.train_full_batch(model, X, Y, lr=0.5, tol=0.1, max_steps=4000)
    _, losses = loop(model, X, Y, 0.5, 0.0, result.steps)
    assert result.converged
    assert result.loss == pytest.approx(losses[-1], rel=1e-8)
    assert losses[-1] <= 0.1 < losses[-2]


def test_early_stopping_returns_the_best_weights_seen(rng):
    # A teacher and noise: the validation loss has its minimum after some steps, and rises again.
    X, X_val = unit_inputs(rng, 20, 6), unit_inputs(rng, 40, 6)
    teacher = rng.normal(size=(6, 2))
    Y = X @ teacher + 3.0 * rng.normal(size=(20, 2))
    Y_val = X_val @ teacher
    model = net((6, 30, 2), gamma=2.0)
    result = ntk.train_full_batch(
        model, X, Y, validation=(X_val, Y_val), lr=0.5, tol=1e-9, max_steps=3000
    )
    assert result.converged
    assert result.steps > 3

    def validation_loss(weights):
        outputs = [
            np.asarray(jax.vmap(eqx.tree_at(lambda m: m.weights, model, w))(jnp.asarray(X_val)))
            for w in (weights, model.weights)
        ]
        return np.sum((outputs[0] - outputs[1] - Y_val) ** 2)

    best = validation_loss(result.model.weights)
    window = result.steps + result.steps // 2 + 45  # what comes later was not looked at
    for steps in (result.steps - 1, result.steps, result.steps + 1, window):
        weights, losses = loop(model, X, Y, 0.5, 0.0, steps)
        assert best <= validation_loss(weights) * (1 + 1e-12)
        if steps == result.steps:
            assert result.loss == pytest.approx(losses[-1], rel=1e-8)


def test_training_reports_what_did_not_converge(rng):
    X, Y = toy_task(rng)
    model = net((6, 8, 2), gamma=2.0)
    assert not ntk.train_full_batch(model, X, Y, lr=0.5, tol=1e-8, max_steps=3).converged
    diverged = ntk.train_full_batch(model, X, Y, lr=50.0, tol=1e-3, max_steps=3000)
    assert not diverged.converged
    diverged = ntk.train_full_batch(
        model, X, Y, validation=(X, Y), lr=50.0, tol=1e-3, max_steps=3000
    )
    assert not diverged.converged or np.isfinite(diverged.loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"tol": -1.0}, "tol must be positive"),
        ({"max_steps": 0}, "max_steps must be positive"),
        ({"momentum": 1.0}, "momentum must be in"),
        ({"Y": np.ones((12, 3))}, "expected training targets"),
        ({"X": np.ones((12, 5))}, "training inputs of shape"),
        ({"X": np.ones((0, 6)), "Y": np.ones((0, 2))}, "at least one input"),
        ({"validation": (np.ones((4, 6)), np.ones((3, 2)))}, "expected validation targets"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_training_refuses_bad_input(rng, options, message):
    X, Y = toy_task(rng)
    arguments = {"X": X, "Y": Y, **options}
    with pytest.raises(ValueError, match=message):
        ntk.train_full_batch(net((6, 8, 2)), arguments.pop("X"), arguments.pop("Y"), **arguments)


def test_kernel_flow_solves_its_equation(rng):
    A = rng.normal(size=(9, 14))
    K, Y = A[:6] @ A[:6].T, rng.normal(size=(6, 2))
    K_et = A[6:] @ A[:6].T

    def velocity(_, f):
        f = f.reshape(9, 2)
        return (-np.concatenate([K, K_et]) @ (f[:6] - Y)).reshape(-1)

    t = 0.37
    solved = integrate.solve_ivp(velocity, (0, t), np.zeros(18), rtol=1e-10, atol=1e-12)
    train, elsewhere = ntk.kernel_gradient_flow(K, K_et, Y, t)
    expected = solved.y[:, -1].reshape(9, 2)
    np.testing.assert_allclose(train, expected[:6], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(elsewhere, expected[6:], rtol=1e-7, atol=1e-9)


def test_kernel_flow_ends_at_kernel_regression(rng):
    A = rng.normal(size=(8, 20))
    K, K_et, Y = A[:5] @ A[:5].T, A[5:] @ A[:5].T, rng.normal(size=5)
    train, elsewhere = ntk.kernel_gradient_flow(K, K_et, Y, np.inf)
    np.testing.assert_allclose(train, Y, rtol=1e-9)
    np.testing.assert_allclose(elsewhere, K_et @ np.linalg.solve(K, Y), rtol=1e-9)
    assert np.all(ntk.kernel_gradient_flow(K, K_et, Y, 0.0).train == 0)


def test_match_time_meets_the_loss(rng):
    A = rng.normal(size=(6, 10))
    K, Y = A @ A.T, rng.normal(size=(6, 2))
    for tol in (0.5, 0.01, 1e-6):
        left = ntk.kernel_gradient_flow(K, K, Y, ntk.match_time(K, Y, tol)).train - Y
        assert np.sum(left**2) / np.sum(Y**2) == pytest.approx(tol, rel=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_kernel_flow_refuses_bad_input(rng):
    K, Y = np.eye(3), np.ones(3)
    with pytest.raises(ValueError, match="t must not be negative"):
        ntk.kernel_gradient_flow(K, K, Y, -1.0)
    with pytest.raises(ValueError, match="do not match"):
        ntk.kernel_gradient_flow(K, K, np.ones(2), 1.0)
    with pytest.raises(ValueError, match="symmetric"):
        ntk.kernel_gradient_flow(np.triu(np.ones((3, 3))), K, Y, 1.0)
    with pytest.raises(ValueError, match="tol must be between"):
        ntk.match_time(K, Y, 1.0)
    with pytest.raises(ValueError, match="singular"):
        ntk.match_time(np.diag([1.0, 1.0, 0.0]), Y, 0.01)


# Scaling laws ----------------------------------------------------------------------------------


def test_power_law_fit_recovers_a_law(rng):
    x = np.geomspace(1, 1000, 12)
    fit = ntk.power_law_fit(x, 3.2 * x**-0.7)
    np.testing.assert_allclose((fit.exponent, fit.prefactor), (-0.7, 3.2), rtol=1e-12)
    assert fit.stderr == pytest.approx(0, abs=1e-12)
    errors = [
        (f.exponent + 0.7) / f.stderr
        for f in (
            ntk.power_law_fit(x, x**-0.7 * np.exp(rng.normal(0, 0.1, 12))) for _ in range(400)
        )
    ]
    # Student's t with 10 degrees of freedom: variance 1.25. A standard error off by 30 % fails.
    assert np.var(errors) == pytest.approx(1.25, rel=0.25)


def test_transition_width_interpolates_a_power_law():
    n = np.array([10.0, 40.0, 90.0, 400.0])
    found = ntk.transition_width(n, 50 / n)
    assert found.width == pytest.approx(50, rel=1e-12)
    assert found.bracket == (40.0, 90.0)
    assert ntk.transition_width(n, 50 / n, threshold=0.5).width == pytest.approx(100, rel=1e-12)


@pytest.mark.parametrize(
    ("n", "change", "message"),
    [
        ([1, 2, 3], [3, 2, 1.5], "not bracketed"),
        ([1, 2, 3], [0.9, 0.5, 0.1], "not bracketed"),
        ([1, 2, 3, 4], [2, 0.5, 2, 0.5], "not bracketed once"),
        ([1, 2, 3], [0.5, 1.5, 3], "not bracketed"),
        ([1, 3, 2], [3, 2, 0.5], "increasing"),
        ([1, 2], [3, 2, 0.5], "as many changes"),
        ([0, 2], [3, 0.5], "positive"),
        ([1, 2], [3, float("nan")], "positive"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_transition_width_never_extrapolates(n, change, message):
    with pytest.raises(ValueError, match=message):
        ntk.transition_width(n, change)


@pytest.mark.usefixtures("unchecked")
def test_power_law_refuses_bad_input():
    with pytest.raises(ValueError, match="at least 3"):
        ntk.power_law_fit([1, 2], [1, 2])
    with pytest.raises(ValueError, match="positive"):
        ntk.power_law_fit([1, 2, 3], [1, 0, 2])
