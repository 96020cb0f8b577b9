import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import ntk
from dy33lib.datasets import FOLDER_VARIABLE, load_shipped, load_vision, vision_task
from dy33lib.ntk import Case, Linearised, Profile, Run
from scripts import make_ntk_vision

TINY = Case(width=8, samples=16, gamma=2.0, validation=20, test=30, probe=20, max_steps=200)


def made(observable=0.0, **options) -> Run:
    """A run that nobody made, with a number to find again."""
    return Run(
        Case(**{"width": 8, **options}), True, 1, observable, observable, observable, observable,
        (-1.0, observable), (-2.0, observable),
    )  # fmt: skip


# One run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        TINY,
        replace(TINY, early_stopping=True, seed=1),
        replace(TINY, depth=2, activation="erf", max_steps=20),
        replace(TINY, antisymmetric=True, max_steps=20),
    ],
)
def test_a_run_is_what_its_parts_say(case):
    run = ntk.run_case(case)
    assert run == ntk.run_case(case)  # to the last bit
    assert run.case == case

    model, task = ntk.prepare(case)
    result = ntk.train_full_batch(
        model,
        *task.train,
        validation=task.validation if case.early_stopping else None,
        lr=case.lr,
        tol=case.tol,
        max_steps=case.max_steps,
    )
    assert (run.converged, run.steps, run.train_loss) == (
        result.converged, result.steps, result.loss,
    )  # fmt: skip

    X, Y = (jnp.asarray(part, jnp.float32) for part in task.test)
    moved = np.asarray(jax.vmap(result.model)(X) - jax.vmap(model)(X))
    expected = np.sum((moved - Y) ** 2) / np.sum(np.asarray(Y) ** 2)
    assert run.test_loss == pytest.approx(float(expected), rel=1e-5)

    def kernel(network):
        """By brute force, in double precision."""
        network = jax.tree.map(lambda v: v.astype(jnp.float64), network)

        def output(weights, x):
            return eqx.tree_at(lambda m: m.weights, network, weights)(x)

        probe = jnp.asarray(task.test[0][: case.probe])
        return np.asarray(ntk.empirical_ntk_generic(output, network.weights, probe, trace=True))

    before, after = kernel(model), kernel(result.model)
    assert before.shape == (20, 20)
    assert run.change == pytest.approx(
        np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-3
    )
    assert run.trace_ratio == pytest.approx(np.trace(after) / np.trace(before), rel=1e-4)
    for place, matrix in enumerate((before, after)):
        values = np.linalg.eigvalsh(matrix)
        values = values[values > 1e-12 * values[-1]] / values.sum()
        entropy = -np.sum(values * np.log(values)) / np.log(20)
        assert run.entropy[place] == pytest.approx(entropy, rel=1e-4)
        labels = task.test[1][:20]
        overlap = np.sum(matrix * (labels @ labels.T))
        overlap /= np.linalg.norm(matrix) * np.linalg.norm(labels @ labels.T)
        assert run.alignment[place] == pytest.approx(overlap, rel=1e-4)


def test_the_case_decides_the_images_and_the_weights():
    model, task = ntk.prepare(TINY)
    expected = vision_task(
        load_vision("digits"), train=16, validation=20, test=30, rng=np.random.default_rng(0)
    )
    for mine, other in zip(task, expected, strict=True):
        np.testing.assert_array_equal(mine[0], other[0])
        np.testing.assert_array_equal(mine[1], other[1])
    assert [w.shape for w in model.weights] == [(8, 64), (10, 8)]
    assert (float(model.gamma), model.activation, model.dtype) == (2, "relu", jnp.float32)
    deep, _ = ntk.prepare(replace(TINY, depth=3))
    assert [w.shape for w in deep.weights] == [(8, 64), (8, 8), (8, 8), (10, 8)]
    other, other_task = ntk.prepare(replace(TINY, seed=1))
    assert not np.any(np.asarray(other.weights[0]) == np.asarray(model.weights[0]))
    assert not np.array_equal(other_task.test[0], task.test[0])
    wide, _ = ntk.prepare(replace(TINY, gamma=4.0))
    np.testing.assert_array_equal(wide.weights[0], model.weights[0])


def test_early_stopping_helps_on_what_it_looks_at():
    case = replace(TINY, tol=1e-3, max_steps=3000)
    model, task = ntk.prepare(case)
    plain = ntk.train_full_batch(model, *task.train, tol=1e-3, max_steps=3000)
    stopped = ntk.run_case(replace(case, early_stopping=True))
    assert stopped.steps < plain.steps
    assert stopped.train_loss > plain.loss


def test_impossible_cases_are_refused():
    with pytest.raises(ValueError, match="asked for"):
        ntk.run_case(replace(TINY, samples=5000))
    with pytest.raises(ValueError, match="gamma must be positive"):
        ntk.run_case(replace(TINY, gamma=0.0))
    with pytest.raises(ValueError, match="lr must be positive"):
        ntk.run_case(replace(TINY, lr=-1.0))


# Many runs ---------------------------------------------------------------------------------------


def test_runs_come_in_the_order_of_their_cases():
    cases = [replace(TINY, seed=s, gamma=g) for g in (4.0, 1.0) for s in (2, 0, 1)]
    tracked = []

    def track(runs, total):
        tracked.append(total)
        for run in runs:
            tracked.append(run)
            yield run

    runs = ntk.run_cases(iter(cases), track=track)
    assert [r.case for r in runs] == cases
    assert tracked == [6, *runs]
    with ThreadPoolExecutor(3) as pool:
        assert ntk.run_cases(cases, executor=pool) == runs
    assert ntk.run_cases([]) == []


def test_curve_finds_its_numbers():
    runs = [
        made(100 * seed + width + gamma / 10, width=width, seed=seed, gamma=gamma)
        for gamma in (2.0, 1.0)
        for width in (32, 8, 16)
        for seed in (5, 1, 3)
    ]
    for observable in ("change", "test_loss", "train_loss", "trace_ratio"):
        x, y = ntk.curve(runs, observable, along="width", gamma=2.0)
        np.testing.assert_array_equal(x, [8, 16, 32])
        np.testing.assert_array_equal(y, [[100 * s + w + 0.2 for w in x] for s in (1, 3, 5)])
    for observable in ("entropy", "alignment"):  # of pairs, what came after the training
        _, y = ntk.curve(runs, observable, along="width", gamma=2.0)
        np.testing.assert_array_equal(y[0], [108.2, 116.2, 132.2])
    x, y = ntk.curve(iter(runs), "change", along="gamma", width=16, seed=3)
    np.testing.assert_array_equal((x, y[0]), [[1, 2], [316.1, 316.2]])
    linear = [Linearised(Case(width=w), w / 8, 0.0, 0.0, True) for w in (8, 16)]
    np.testing.assert_array_equal(ntk.curve(linear, "distance", along="width")[1], [[1, 2]])


def test_curve_refuses_gaps_and_doubles():
    runs = [made(width=w, seed=s) for w in (8, 16) for s in (0, 1)]
    ntk.curve(runs, "change", along="width")
    with pytest.raises(ValueError, match="3 runs"):
        ntk.curve(runs[1:], "change", along="width")
    with pytest.raises(ValueError, match="5 runs"):
        ntk.curve([*runs, runs[0]], "change", along="width")
    with pytest.raises(ValueError, match="0 runs"):
        ntk.curve(runs, "change", along="width", gamma=7.0)
    with pytest.raises(ValueError, match="0 runs"):
        ntk.curve([], "change", along="width")
    with pytest.raises(ValueError, match="4 runs"):  # seeds that differ in the width
        ntk.curve(runs, "change", along="gamma")
    with pytest.raises(AttributeError, match="colour"):
        ntk.curve(runs, "colour", along="width")


def test_curve_refuses_a_double_that_hides_a_gap():
    runs = [made(width=w, seed=s) for w in (8, 16) for s in (0, 1)]
    with pytest.raises(ValueError, match="4 runs"):
        ntk.curve([runs[0], *runs[:3]], "change", along="width")


def test_each_seed_has_its_exponent():
    x = np.array([16.0, 32.0, 128.0])
    exponents = ntk.seed_exponents(x, np.stack([3 * x**-0.5, 0.2 * x**1.25]))
    assert exponents == pytest.approx([-0.5, 1.25], rel=1e-12)
    assert all(isinstance(e, float) for e in exponents)


# The linearised network --------------------------------------------------------------------------


SMOOTH = Case(
    width=64, samples=16, gamma=0.1, activation="erf", antisymmetric=True, lr=0.01, tol=0.1,
    validation=0, test=30,
)  # fmt: skip


def test_a_lazy_network_is_its_linearisation():
    lazy = ntk.run_linearised(SMOOTH)
    assert lazy.converged
    assert lazy.case == SMOOTH
    assert lazy.distance < 1e-3
    assert lazy.trained == pytest.approx(lazy.linear, rel=1e-3)
    assert lazy.trained < 0.9  # both have learnt something


def test_a_network_that_learns_features_is_not():
    case = replace(SMOOTH, gamma=20.0)
    learnt = ntk.run_linearised(case)
    assert learnt.converged
    assert learnt.distance > 0.1
    model, task = ntk.prepare(case)
    result = ntk.train_full_batch(model, *task.train, lr=case.lr, tol=case.tol)
    X, Y = task.test
    trained = np.asarray(jax.vmap(result.model)(jnp.asarray(X, jnp.float32)))
    loss = np.sum((trained - Y) ** 2) / np.sum(Y**2)
    assert learnt.trained == pytest.approx(loss, rel=1e-5)
    between = learnt.distance * np.linalg.norm(trained) / np.linalg.norm(Y)
    # the triangle of target, trained and linearised outputs
    assert abs(np.sqrt(learnt.linear) - np.sqrt(loss)) <= between + 1e-6
    assert between <= np.sqrt(learnt.linear) + np.sqrt(loss)


# Sizes -------------------------------------------------------------------------------------------


def test_profiles_are_consistent():
    tutorial, full = Profile.tutorial(), Profile.full()
    for profile in (tutorial, full):
        for name in ("seeds", "widths", "gammas", "scaling_widths", "scaling_samples"):
            values = getattr(profile, name)
            assert list(values) == sorted(set(values))
            assert len(values) >= 3  # a power law, and statistics, need as many
        assert list(profile.scaling_seeds) == sorted(set(profile.scaling_seeds))
        assert len(profile.scaling_seeds) >= 3
        assert min(profile.gammas) > 0
        assert all(n % 2 == 0 for n in profile.widths)  # an antisymmetric network needs it
    assert max(tutorial.scaling_samples) + 300 + 400 <= len(load_vision("digits").labels)
    assert max(full.scaling_samples) + 300 + 400 <= 60000
    assert (tutorial.images, full.images) == ("digits", "mnist")
    for name in ("seeds", "widths", "gammas", "scaling_widths", "scaling_samples"):
        assert set(getattr(tutorial, name)) <= set(getattr(full, name))


# What is shipped ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return load_shipped("ntk_vision")


def test_shipped_runs_are_those_of_the_script(shipped):
    cases = make_ntk_vision.cases()
    assert tuple(shipped["columns"]) == make_ntk_vision.COLUMNS
    assert shipped["images"].tolist() == [case.images for case in cases]
    expected = [[c.width, c.samples, c.gamma, c.seed] for c in cases]
    np.testing.assert_array_equal(shipped["runs"][:, :4], expected)
    assert np.all(np.isfinite(shipped["runs"]))
    numbers = dict(zip(make_ntk_vision.COLUMNS, shipped["runs"].T, strict=True))
    assert np.all(numbers["change"] > 0)
    for name in ("train_loss", "test_loss", "alignment_before", "alignment_after"):
        assert np.all((numbers[name] > 0) & (numbers[name] < 1))
        assert len(np.unique(numbers[name])) > 10  # the alignment before knows no samples


def repeat(shipped, images: str) -> None:
    """Run the cheapest of the shipped cases again."""
    cases = make_ntk_vision.cases()
    costs = [(c.width * c.samples, i) for i, c in enumerate(cases) if c.images == images]
    number = min(costs)[1]
    row = make_ntk_vision.row(ntk.run_case(cases[number]))
    np.testing.assert_allclose(shipped["runs"][number], row, rtol=1e-3)


def test_a_shipped_run_on_digits_can_be_repeated(shipped):
    repeat(shipped, "digits")


@pytest.mark.skipif(
    not os.environ.get(FOLDER_VARIABLE),
    reason=f"MNIST is not shipped; name the folder that holds it in {FOLDER_VARIABLE}",
)
def test_a_shipped_run_on_mnist_can_be_repeated(shipped):
    repeat(shipped, "mnist")


@pytest.mark.usefixtures("unchecked")
def test_steady_step_shrinks_with_the_growth_of_the_kernel():
    assert ntk.steady_step(1e-9, 100) == pytest.approx(0.5)
    assert ntk.steady_step(30.0, 300, 1.0) == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="gamma must be positive"):
        ntk.steady_step(0.0, 100)
    with pytest.raises(ValueError, match="width must be positive"):
        ntk.steady_step(1.0, 0)
