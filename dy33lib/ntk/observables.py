"""Numbers that summarise a kernel."""

import numpy as np
from jaxtyping import Array, Num

from dy33lib.ntk._checks import as_kernel


def kernel_trace(K: Num[Array | np.ndarray, "m m"]) -> float:
    """Sum of the eigenvalues: how fast the outputs move under gradient descent.

    Raises:
        ValueError: if K is not a finite symmetric matrix, or its trace is not positive.
    """
    return float(np.trace(as_kernel(K)))


def kernel_entropy(K: Num[Array | np.ndarray, "m m"], *, effective: bool = False) -> float:
    r"""Von Neumann entropy of the spectrum, :math:`-\sum_i p_i \ln p_i`.

    :math:`p_i` is an eigenvalue over the trace. 0: one direction is learnt; ln m: all alike.
    Defined as in Tovey et al. (2024), arXiv:2410.07451; `effective` divides by ln m.

    Raises:
        ValueError: if K is not a finite symmetric matrix, or its trace is not positive.
    """
    matrix = as_kernel(K)
    p = np.linalg.eigvalsh(matrix) / np.trace(matrix)
    p = p[p > 0]  # rounding leaves eigenvalues of about -1e-16; p ln p tends to 0 there
    entropy = float(-np.sum(p * np.log(p)))
    return entropy / float(np.log(matrix.shape[0])) if effective else entropy


def kernel_alignment(A: Num[Array | np.ndarray, "m m"], B: Num[Array | np.ndarray, "m m"]) -> float:
    r"""Cosine of the angle between two kernels, :math:`\langle A, B\rangle / (|A||B|)`.

    Raises:
        ValueError: if either is not a finite symmetric matrix with positive trace, or the shapes
            differ.
    """
    a, b = as_kernel(A, "A"), as_kernel(B, "B")
    if a.shape != b.shape:
        raise ValueError(f"kernels differ in shape: {a.shape} and {b.shape}")
    return float(np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def label_alignment(K: Num[Array | np.ndarray, "m m"], Y: Num[Array | np.ndarray, "m k"]) -> float:
    r"""Alignment of a kernel with the Gram matrix :math:`Y Y^T` of the labels.

    Cristianini et al. (2001): near 1, the kernel's leading directions are the labels.

    Raises:
        ValueError: as in :func:`.kernel_alignment`, or if Y has another number of rows.
    """
    labels = np.asarray(Y, np.float64)
    if labels.ndim != 2 or labels.shape[0] != np.shape(K)[0]:
        raise ValueError(f"expected Y of shape ({np.shape(K)[0]}, k), got {labels.shape}")
    return kernel_alignment(K, labels @ labels.T)


def relative_change(
    K0: Num[Array | np.ndarray, "m m"], K1: Num[Array | np.ndarray, "m m"]
) -> float:
    r"""Size of a kernel's change in units of its start, :math:`|K_1 - K_0|_F / |K_0|_F`.

    Raises:
        ValueError: as in :func:`.kernel_alignment`.
    """
    before, after = as_kernel(K0, "K0"), as_kernel(K1, "K1")
    if before.shape != after.shape:
        raise ValueError(f"kernels differ in shape: {before.shape} and {after.shape}")
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))
