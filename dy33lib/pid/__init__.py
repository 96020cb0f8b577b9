r"""Neurons with goals of their own, built from partial information decomposition.

Several sources S together hold the information I(Y; S) about the answer Y of a neuron. It is the
sum of atoms, one for each antichain of sources: what can be had from source 1 as well as from 2
(redundant), from 1 alone (unique), from both only together (synergistic). A neuron's goal is a
weighted sum of its atoms. It learns by climbing this goal, which takes nothing but what the neuron
sees itself.

The files go from the lattice to networks: `lattices` (antichains, their order), `measure` (atoms of
a known distribution), `gates` (one neuron with two binary sources), `samples` (atoms of a neuron
from a batch, and their derivative), `goals` (the published ones), `networks` (layers, and how
answers arise), `training`, `codes` (what hidden layers turn into), `baselines`, and `study`.

References:
    Makkeh, Gutknecht and Wibral (2021), arXiv:2002.03356 (redundancy by shared exclusions);
    Makkeh, Graetz, Schneider, Ehrlich, Priesemann and Wibral (2025), arXiv:2306.02149
    (infomorphic neurons);
    Schneider, Neuhaus, Ehrlich, Makkeh, Ecker, Priesemann and Wibral (2025), arXiv:2412.02482
    (three classes of inputs; the talk).
"""

from dy33lib.pid.baselines import hebbian_weights, sign_features, train_backprop
from dy33lib.pid.codes import codewords, dichotomies, hidden_answers, wrong_bits
from dy33lib.pid.gates import best_gate, climb, gate_distribution
from dy33lib.pid.goals import GOALS, OUTPUT, Goal
from dy33lib.pid.lattices import Lattice, antichains, hasse, lattice, name
from dy33lib.pid.measure import i_sx, mutual_information, pid
from dy33lib.pid.networks import InfomorphicLayer, InfomorphicNet, Pass, drive, forward
from dy33lib.pid.samples import bin_fixed, bin_normalised, goal, pid_from_samples
from dy33lib.pid.study import (
    DIGITS,
    Size,
    Split,
    Tuned,
    backprop_accuracy,
    frozen_features,
    hebbian_features,
    local_accuracy,
    logistic_accuracy,
    mean_accuracy,
    pixels,
    readout_accuracy,
    split_images,
    study_key,
    train_local,
    tuned,
)
from dy33lib.pid.training import (
    History,
    Rates,
    Trained,
    evaluate,
    layer_goals,
    neuron_atoms,
    one_hot,
    predict,
    train,
)

__all__ = [
    "DIGITS",
    "GOALS",
    "OUTPUT",
    "Goal",
    "History",
    "InfomorphicLayer",
    "InfomorphicNet",
    "Lattice",
    "Pass",
    "Rates",
    "Size",
    "Split",
    "Trained",
    "Tuned",
    "antichains",
    "backprop_accuracy",
    "best_gate",
    "bin_fixed",
    "bin_normalised",
    "climb",
    "codewords",
    "dichotomies",
    "drive",
    "evaluate",
    "forward",
    "frozen_features",
    "gate_distribution",
    "goal",
    "hasse",
    "hebbian_features",
    "hebbian_weights",
    "hidden_answers",
    "i_sx",
    "lattice",
    "layer_goals",
    "local_accuracy",
    "logistic_accuracy",
    "mean_accuracy",
    "mutual_information",
    "name",
    "neuron_atoms",
    "one_hot",
    "pid",
    "pid_from_samples",
    "pixels",
    "predict",
    "readout_accuracy",
    "sign_features",
    "split_images",
    "study_key",
    "train",
    "train_backprop",
    "train_local",
    "tuned",
    "wrong_bits",
]
