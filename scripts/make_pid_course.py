"""What hidden neurons of chapter 3 become; writes dy33lib/data/pid_course.npz.

    python scripts/make_pid_course.py      # five minutes of one core

The heuristic and the optimised goal, with the step sizes chosen in pid_digits.npz and eight seeds:
atoms before training and after every tenth epoch, the code of the trained network, and how often it
recognises each test image when it is shown four times. The first three of each have their answers
shuffled among the images, for comparison, and three others learn from shuffled labels. The code of
untrained neurons is that of the signs of their fields.
"""

from pathlib import Path

import jax
import numpy as np

from dy33lib import pid
from dy33lib.datasets import load_shipped, load_vision
from dy33lib.pid import GOALS, Rates

ROOT = Path(__file__).resolve().parents[1]
AIMS = ("heuristic", "optimised")
SEEDS, MIXED = 8, 3


def code(net, split, seed: int) -> tuple[int, int, float, float]:
    """Ways to divide the digits, least distance of codewords, wrong bits, and digits decoded."""
    first, second = jax.random.split(pid.study_key(seed, 3))
    taught = pid.hidden_answers(net, split.train[0], first)
    return described(taught, pid.hidden_answers(net, split.test[0], second), split)


def described(taught, shown, split) -> tuple[int, int, float, float]:
    """The same for given answers to the images to learn from and to test with."""
    words = pid.codewords(taught, split.train[1])
    wrong = np.asarray(pid.wrong_bits(words, shown))
    truth = np.asarray(split.test[1])
    apart = np.asarray((words[:, None] != words[None]).sum(axis=2))
    return (
        pid.dichotomies(words),
        int(apart[np.triu_indices(10, 1)].min()),
        float(wrong[np.arange(len(truth)), truth].mean()),
        float((wrong.argmin(axis=1) == truth).mean()),
    )


def main() -> None:
    split = pid.split_images(load_vision("digits"), test=359)
    images, labels = split.train
    study = load_shipped("pid_digits")
    atoms, codes, mixed, right, floor, untrained = [], [], [], [], [], []
    for seed in range(SEEDS):
        features = pid.frozen_features(images.shape[1], seed=seed)
        untrained.append(described(features(images), features(split.test[0]), split))
    for name in AIMS:
        setting = pid.tuned(study, f"local: {name}").setting
        rates = Rates(hidden=setting["hidden"], output=setting["output"])
        for seed in range(SEEDS):
            drawn = pid.InfomorphicNet(images.shape[1], 100, key=pid.study_key(seed, 0))
            targets = pid.one_hot(labels, drawn)
            look = pid.forward(drawn, images, targets, pid.study_key(seed, 4))
            before, _ = pid.neuron_atoms(drawn, look, targets)
            done = pid.train_local(
                split.train, GOALS[name], rates, seed=seed, every=10, monitor=split.test
            )
            atoms.append(np.vstack([before.mean(axis=0), done.history.hidden]))
            codes.append(code(done.net, split, seed))
            keys = [jax.random.fold_in(pid.study_key(seed, 2), draw) for draw in range(4)]
            answers = [np.asarray(pid.predict(done.net, split.test[0], key)) for key in keys]
            right.append(np.mean(answers == np.asarray(split.test[1]), axis=0))
            if seed < MIXED:
                fields = pid.forward(done.net, images, targets, pid.study_key(seed, 4)).hidden
                order = np.random.default_rng([1, seed]).permutation(len(labels))
                theta = done.net.hidden.theta(fields)[:, order]
                shuffled = pid.pid_from_samples(done.net.hidden.bins(fields), theta, 20)
                floor.append(shuffled.mean(axis=0))
            print(name, seed, done.history.accuracy[-1], codes[-1], flush=True)
        for seed in range(MIXED):
            order = np.random.default_rng([2, seed]).permutation(len(labels))
            shuffled = (images, labels[order])
            done = pid.train_local(
                shuffled, GOALS[name], rates, seed=seed, every=10, monitor=split.test
            )
            mixed.append(done.history.hidden[-1])
    np.savez_compressed(
        ROOT / "dy33lib" / "data" / "pid_course.npz",
        goals=np.array(AIMS),
        atoms=np.array(atoms, np.float32).reshape(len(AIMS), SEEDS, -1, 19),
        codes=np.array(codes).reshape(len(AIMS), SEEDS, 4),
        right=np.array(right, np.float32).reshape(len(AIMS), SEEDS, -1),
        mixed=np.array(mixed, np.float32).reshape(len(AIMS), MIXED, 19),
        floor=np.array(floor, np.float32).reshape(len(AIMS), MIXED, 19),
        untrained=np.array(untrained),
    )


if __name__ == "__main__":
    main()
