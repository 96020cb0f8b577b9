"""Atoms and derivatives by other people's code; writes dy33lib/data/pid_reference.npz.

    git clone https://github.com/Abzinger/SxPID
    git clone https://github.com/Priesemann-Group/Infomorphic_Networks
    pip install torch dit tqdm prettytable "setuptools<80" matplotlib scikit-learn
    python scripts/make_pid_reference.py SxPID Infomorphic_Networks

Needs nothing of dy33lib. Random distributions of two and three binary sources and a binary target,
some with entries of zero, are decomposed by SxPID and by dit; five gates by the measures of dit
that the chapter shows; fields of a few neurons by the layer of the authors, in double precision,
with the derivative of the goal.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
ORDER = {
    2: ["1", "2", "1|2", "12"],
    3: ["1|2|3", "1|2", "1|3", "2|3", "1|23", "2|13", "3|12", "1", "2", "3", "12|13|23", "12|13",
        "12|23", "13|23", "12", "13", "23", "123"],
}  # fmt: skip
MEASURES = ("WB", "MMI", "BROJA", "CCS", "PM", "SX")
PAIRS = list(itertools.product((0, 1), repeat=2))
GATES = {
    "XOR": [(a, b, a ^ b) for a, b in PAIRS],
    "AND": [(a, b, a & b) for a, b in PAIRS],
    "COPY": [(a, b, 2 * a + b) for a, b in PAIRS],
    "UNQ": [(a, b, a) for a, b in PAIRS],
    "RND": [(a, a, a) for a in (0, 1)],
}


def chains(n: int) -> list:
    return [tuple(tuple(map(int, a)) for a in text.split("|")) for text in ORDER[n]]


def distributions(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    p = rng.dirichlet(np.ones(2 ** (n + 1)), size=4).reshape(4, *(2,) * (n + 1))
    p[2:][rng.random(p[2:].shape) < 0.3] = 0
    return p / p.sum(axis=tuple(range(1, n + 2)), keepdims=True)


def as_dict(p: np.ndarray) -> dict:
    cells = itertools.product((0, 1), repeat=p.ndim)
    return {cell: float(p[cell]) for cell in cells if p[cell] > 0}


def by_sxpid(n: int):
    """Atoms by SxPID, whose own class makes the lattices: its file of them may be missing."""
    from sxpid import SxPID  # pyright: ignore[reportMissingImports]

    made = SxPID.Lattice(n, None)
    made.antichain()
    moebius = made.compute_moebius_inversion()
    SxPID.load_achains = lambda n: made._achains
    SxPID.load_moebius_function = lambda n: np.array(moebius, int)
    found = []
    for p in distributions(n):
        _, atoms = SxPID.pid(as_dict(p), verbose=0)
        sets = {frozenset(alpha): value[2] for alpha, value in atoms.items()}
        found.append([sets[frozenset(alpha)] for alpha in chains(n)])
    return np.array(found), made._achains, moebius


def by_dit(n: int) -> np.ndarray:
    import dit  # pyright: ignore[reportMissingImports]

    found = []
    for p in distributions(n):
        cells = as_dict(p)
        d = dit.Distribution(["".join(map(str, c)) for c in cells], list(cells.values()))
        atoms = dit.pid.PID_SX(d, [[i] for i in range(n)], [n])
        names = [tuple(sorted(tuple(i - 1 for i in a) for a in alpha)) for alpha in chains(n)]
        names = [tuple(sorted(a, key=lambda x: (len(x), x))) for a in names]
        found.append([float(atoms[alpha]) for alpha in names])
    return np.array(found)


def gates_by_dit() -> np.ndarray:
    """Atoms {1}, {2}, {1}{2} and {12} of every gate by every measure."""
    import dit  # pyright: ignore[reportMissingImports]

    found = np.empty((len(GATES), len(MEASURES), 4))
    for i, cells in enumerate(GATES.values()):
        d = dit.Distribution(["".join(map(str, c)) for c in cells], [1 / len(cells)] * len(cells))
        for j, measure in enumerate(MEASURES):
            atoms = getattr(dit.pid, f"PID_{measure}")(d, [[0], [1]], [2])
            names = (((0,),), ((1,),), ((0,), (1,)), ((0, 1),))
            found[i, j] = [float(atoms[name]) for name in names]
    return found


def by_authors(n: int, made) -> dict[str, np.ndarray]:
    import torch  # pyright: ignore[reportMissingImports]
    from im_net import im_model, prob_estim  # pyright: ignore[reportMissingImports]

    torch.set_default_dtype(torch.float64)
    _, antichains, moebius = made
    im_model.load_moebius_function = lambda n, device="cpu": (torch.tensor(moebius), antichains)
    rng, neurons, samples = np.random.default_rng(33), 5, 150
    fields = 6 * rng.normal(size=(n, samples, neurons))
    theta = 1 / (1 + np.exp(-fields.sum(axis=0) / 4))
    gamma = rng.normal(size=len(chains(n)) + 1)
    kind = prob_estim.BinningFixedSize if n == 3 else prob_estim.BinningAdaptiveSize
    edges = [[-20, 20]] * n
    binning = kind("cpu", [20] * n, edges, normalize=True, symmetric=True)
    kind = "im_net.activation_functions.SumActivation"
    layer = im_model.IM_Layer(
        [2] * n, neurons, kind, binning, biases=[True] * n, connections=[1] * n
    )
    answers = torch.tensor(theta, requires_grad=True)
    layer.save_for_loss = (
        [torch.tensor(x) for x in fields],
        torch.stack([1 - answers, answers], 2),
    )
    loss, atoms = layer.loss(gamma=torch.tensor(gamma), return_information=True)
    loss.backward()
    return {f"fields_{n}": fields, f"theta_{n}": theta, f"gamma_{n}": gamma,
            f"layer_atoms_{n}": atoms, f"layer_goal_{n}": -loss.item(),
            f"layer_slopes_{n}": -answers.grad.numpy()}  # fmt: skip


if __name__ == "__main__":
    sys.path[:0] = [str(Path(folder).resolve()) for folder in sys.argv[1:3]]
    arrays: dict = {"gates": np.array(list(GATES)), "measures": np.array(MEASURES)}
    arrays["gates_by_dit"] = gates_by_dit()
    for n in (2, 3):
        made = by_sxpid(n)
        arrays |= {f"p_{n}": distributions(n), f"sxpid_{n}": made[0], f"dit_{n}": by_dit(n)}
        arrays |= by_authors(n, made)
        print(n, "SxPID and dit differ by", np.abs(arrays[f"sxpid_{n}"] - arrays[f"dit_{n}"]).max())
    np.savez_compressed(ROOT / "dy33lib" / "data" / "pid_reference.npz", **arrays)
