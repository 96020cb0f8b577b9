"""What ships of chapter 5: a part of it is computed again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dy33lib import flows
from dy33lib.datasets import load_shipped
from dy33lib.flows import study
from dy33lib.particles import lj_energy

START = study.T0, study.P0


@pytest.fixture(scope="module")
def shipped():
    return load_shipped("flows_study"), load_shipped("flows_reference")


@pytest.fixture(scope="module")
def packed(shipped):
    boxes = shipped[1]
    return {p: study.Packed(boxes[f"{p}/s"], boxes[f"{p}/V"]) for p in study.PHASES}


@pytest.mark.parametrize("phase", study.PHASES)
def test_configurations_have_the_energies_and_volumes_of_their_runs(shipped, packed, phase):
    """Sixteen of 400 frames of each replica, so that means over replicas differ by chance only.

    The energies scatter as those of the grid's runs of the same state, by 14 with 3 % of error,
    and go along with the volumes by 0.3: positions in boxes of other configurations, which hardly
    change the mean, have 21, and 0.6 or -0.4. The order of replicas, which are all alike, and one
    place of the edge's 65536 do not show.
    """
    s, V = packed[phase]
    assert s.shape == (16, 3, 108, 63) and s.dtype == np.uint16 and V.shape == (16, 63)
    configs = study.unpack(packed[phase])
    U = np.asarray(lj_energy(*configs), float).reshape(16, 63)
    assert np.isfinite(U).all()
    for name, mine in (("U", U), ("V", V.astype(float))):
        gap = mine.mean(axis=0) - shipped[0][f"reference/{phase}/{name}"][:63]
        assert abs(gap.mean()) < 4 * gap.std(ddof=1) / np.sqrt(63)
        within = mine.std(axis=0).mean()
        assert np.abs(gap).max() < 5 * within  # replica by replica
    others = [shipped[0][f"grid/{phase}/{name}"][:, 0].astype(float) for name in "UV"]
    assert U.std() / others[0].std() == pytest.approx(1.0, abs=0.15)
    together = [np.corrcoef(u.ravel(), v.ravel())[0, 1] for u, v in ((U, V), others)]
    assert together[0] == pytest.approx(together[1], abs=0.2)


@pytest.mark.parametrize("phase", study.PHASES)
def test_free_energies_come_back_from_a_fifth_of_the_configurations(shipped, packed, phase):
    """Five states on the line, mapped by the flows that ship; the errors shrink by the root.

    Any map gives these numbers, with more or less of an error. Effective samples tell whether it is
    that one: their ratios to those that ship have means of 1.00 and 0.97, and 0.57 and 0.53 if
    weights of networks are smaller by a tenth.
    """
    archive = shipped[0]
    at = np.array([[T, study.guess(T)] for T in study.TEMPERATURES if T != study.T0])
    rows = [
        k for k, x in enumerate(study.states()[1:]) if (np.abs(at - x).max(axis=1) < 1e-9).any()
    ]
    parts = [study.unpack(packed[phase], study.fold(63, seed)[0]) for seed in study.SEEDS]
    made = [
        study.shipped(archive, f"reference-{phase}-8-{seed}", part, START, study.TERMS)
        for seed, part in enumerate(parts)
    ]
    ln_w = study.log_weights_at(study.pooled(made, packed[phase], START, at), at)
    ratios = []
    for w, row in zip(ln_w.reshape(-1, 16, 63), rows, strict=True):
        mine = flows.lfep(w)
        tests = [study.fold(63, seed)[1] for seed in study.SEEDS]
        ratios.append(
            [flows.ess(w[:, t]) for t in tests] / archive[f"maps/{phase}/pair/ess"][:, row]
        )
        value, error = (archive[f"maps/{phase}/pair/{name}"][row] for name in ("value", "error"))
        assert abs(mine.value - value) < 4 * np.hypot(mine.error, error)
        assert mine.error < 0.3 and mine.ess > 0.05
    assert abs(np.log(ratios).mean()) < 0.12
    plain = study.log_weights_at(study.sweep(None, parts[0], START, at), at)
    worst = [abs(flows.lfep(w).value - archive[f"maps/{phase}/pair/value"][row])
             for w, row in zip(plain, rows, strict=True)]  # fmt: skip
    assert max(worst) > 1  # without a map none of this holds


def test_both_ways_meet_where_the_grid_is_off(shipped, packed):
    """The liquid at 0.9: the flow there, a new simulation back, and the flow alone as it ships."""
    archive, at = shipped[0], np.array([[0.9, study.guess(0.9)]])
    row = int(np.argmin(np.abs(study.states()[1:] - at).sum(axis=1)))
    train, test = study.fold(63, 0)
    made = study.shipped(
        archive, "reference-liquid-8-0", study.unpack(packed["liquid"], train), START, study.TERMS
    )
    found = study.sweep(made, study.unpack(packed["liquid"], test), START, at)
    there = study.log_weights_at(found, at)[0].reshape(16, -1)
    both = flows.bar(-there, -archive["again/back"].astype(float))
    value, error = (archive[f"maps/liquid/pair/{name}"][row] for name in ("value", "error"))
    assert abs(both.value - value) < 4 * np.hypot(both.error, error)
    assert both.error < 0.03
    alone = flows.lfep(archive["again/back"].astype(float))
    assert abs(alone.value + value) < 4 * np.hypot(alone.error, error)
    grid, its = (archive[f"grid/liquid/{name}"][row] for name in ("value", "error"))
    assert both.value - grid > 3 * np.hypot(both.error, its)


def test_a_flow_trained_anew_moves_volumes_as_that_which_ships(shipped, packed):
    """The shift of ln V at the ends of the line, for the liquid: 0.05, found again within 0.005."""
    configs = study.unpack(packed["liquid"], study.fold(63, 0)[0])
    theirs = study.shipped(shipped[0], "reference-liquid-0-0", configs, START, 0)
    mine = study.trained(configs, START, 0, steps=120, batch=32, key=jax.random.key(5)).flow
    T = jnp.array([0.9, 1.6], jnp.float32)
    P = jnp.asarray(study.guess(np.array([0.9, 1.6])), jnp.float32)
    shifts = [np.asarray(f.condition(T, P)[0]) for f in (mine, theirs)]
    assert shifts[1][0] > 0.03 and shifts[1][1] < -0.03
    np.testing.assert_allclose(shifts[0], shifts[1], atol=0.005)


def test_the_crossing_that_ships_has_the_gap_that_ships(shipped):
    """From histograms, and half of the rows agree with the other half."""
    archive = shipped[0]
    for name in ("umbrella", "line"):
        counts = archive[f"{name}/counts"].astype(int)
        middles = (np.arange(len(counts)) + 0.5) / len(counts)
        seen = flows.Orders(
            counts, middles, np.linspace(0.10, 0.85, 26), 3000.0,
            archive[f"{name}/lift"].astype(float),
        )  # fmt: skip
        found = flows.crossing_gap(seen)
        np.testing.assert_allclose(found[:2], archive[f"{name}/gap"], rtol=1e-3)
        halves = []
        for rows in (np.arange(0, 8, 2), np.arange(1, 8, 2)):  # from the crystal, from the liquid
            free = flows.profile(seen, rows)
            halves.append(
                np.log(np.exp(-free[middles < 0.5]).sum() / np.exp(-free[middles > 0.5]).sum())
            )
        assert abs(halves[0] - halves[1]) < 4 * 2 * found.error
