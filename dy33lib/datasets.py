"""Images for the chapters that learn from images.

The handwritten digits of scikit-learn come with the package and need no network. MNIST and
CIFAR-10 are read from a local folder or, on request, from OpenML through scikit-learn.
"""

import gzip
import hashlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn import datasets as sklearn_datasets

FOLDER_VARIABLE = "DY33_DATA"
_OPENML = {"mnist": "mnist_784", "cifar10": "CIFAR_10"}


class Images(NamedTuple):
    """Labelled images, one flattened image a row, values between 0 and 1."""

    name: str
    pixels: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]


class Task(NamedTuple):
    """Disjoint sets of images as inputs and centred one-hot targets.

    The mean of the images outside the test set is taken off each image (all-positive inputs would
    give every kernel one huge eigenvalue), and rows are scaled to squared length d. A target is
    1 - 1/k at its class and -1/k elsewhere.
    """

    train: tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n k"]]
    validation: tuple[Float[np.ndarray, "v d"], Float[np.ndarray, "v k"]]
    test: tuple[Float[np.ndarray, "t d"], Float[np.ndarray, "t k"]]


def load_vision(
    name: str, folder: str | os.PathLike | None = None, *, download: bool = False
) -> Images:
    """Load the images "digits", "mnist" or "cifar10".

    Args:
        name: "digits" (1,797 images of 8 x 8, shipped with scikit-learn: Alpaydin and Kaynak
            1998, doi:10.24432/C50P49), "mnist" (28 x 28) or "cifar10" (32 x 32 x 3).
        folder: where MNIST and CIFAR-10 lie; the environment variable DY33_DATA if left out.
            MNIST: the IDX files under their usual names, packed or not, here or in `mnist/`; the
            files that are there are joined. CIFAR-10: an `.npz` whose name starts with "cifar10";
            its arrays `x_*` of bytes, (n, 32, 32, 3), and labels `y_*`, (n,), are joined.
        download: ask OpenML where no folder is given (slow, and needs a network).

    Raises:
        ValueError: if the name is unknown.
        FileNotFoundError: if the images are not in the folder, or no folder is given.
        ConnectionError: if OpenML cannot be reached.
    """
    if name == "digits":
        pixels, labels = sklearn_datasets.load_digits(return_X_y=True)
        return Images(name, np.asarray(pixels) / 16.0, np.asarray(labels, np.int64))
    if name not in _OPENML:
        raise ValueError(f"name must be digits, mnist or cifar10, got {name!r}")
    place = folder or os.environ.get(FOLDER_VARIABLE)
    if place:
        return (_read_mnist if name == "mnist" else _read_cifar10)(Path(place))
    if not download:
        raise FileNotFoundError(
            f"{name} is not shipped: name a folder (or set {FOLDER_VARIABLE}), or pass "
            "download=True to fetch it from OpenML"
        )
    try:
        pixels, labels = sklearn_datasets.fetch_openml(
            _OPENML[name], as_frame=False, parser="liac-arff", return_X_y=True
        )
    except OSError as error:  # urllib's errors, time-outs and refused connections are OSErrors
        raise ConnectionError(
            f"OpenML cannot be reached for {name} ({error}); name a local folder instead"
        ) from error
    return Images(name, np.asarray(pixels) / 255.0, np.asarray(labels).astype(np.int64))


def vision_task(
    images: Images,
    *,
    train: int,
    test: int,
    validation: int = 0,
    rng: np.random.Generator,
) -> Task:
    """Draw disjoint training, validation and test sets at random.

    Args:
        images: from :func:`.load_vision`.
        train: number of training images.
        test: number of test images.
        validation: number of validation images.
        rng: the generator; the test and validation sets are drawn first, so for a given state of
            the generator they are the same, and smaller training sets nest in larger ones.

    Raises:
        ValueError: if a number is negative, train or test is 0, more images are asked for than
            there are, or an image equals the mean and cannot be normalised.
    """
    counts = (test, validation, train)
    if min(counts) < 0 or train == 0 or test == 0:
        raise ValueError(f"train and test must be positive: train={train}, test={test}")
    if sum(counts) > len(images.pixels):
        raise ValueError(f"asked for {sum(counts)} of {len(images.pixels)} {images.name} images")
    order = rng.permutation(len(images.pixels))
    centred = images.pixels - images.pixels[order[test:]].mean(axis=0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    if np.any(length == 0):
        raise ValueError(f"image {int(np.argmin(length))} of {images.name} has no contrast")
    inputs = centred * (np.sqrt(centred.shape[1]) / length)
    classes = int(images.labels.max()) + 1
    targets = np.eye(classes)[images.labels] - 1 / classes
    parts = np.split(order[: sum(counts)], np.cumsum(counts)[:-1])
    test_set, validation_set, train_set = ((inputs[i], targets[i]) for i in parts)
    return Task(train_set, validation_set, test_set)


def load_shipped(name: str) -> dict[str, np.ndarray]:
    """Arrays that come with the library because they take too long to make in a chapter.

    `scripts/make_<name>.py` made them; `dy33lib/data/SHA256SUMS` holds their checksums.

    Args:
        name: of the file in `dy33lib/data`, without its ending.

    Raises:
        ValueError: if there is no such file, or it is not the one that the checksum is of.
    """
    folder = Path(__file__).parent / "data"
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {line.split()[1]: line.split()[0] for line in lines}
    if f"{name}.npz" not in sums:
        there = ", ".join(sorted(file for file in sums if file.endswith(".npz")))
        raise ValueError(f"no shipped data {name!r}; there is {there}")
    data = (folder / f"{name}.npz").read_bytes()
    if hashlib.sha256(data).hexdigest() != sums[f"{name}.npz"]:
        raise ValueError(f"{name}.npz is not the file whose checksum is in SHA256SUMS")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def _find(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    return sorted(folder.glob(pattern)) + sorted(folder.glob(f"*/{pattern}"))


def _read_idx(path: Path) -> np.ndarray:
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        data = file.read()
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} is not an IDX file of bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _read_mnist(folder: Path) -> Images:
    found: dict[str, Path] = {}
    for path in _find(folder, "*-images-idx3-ubyte*"):
        found.setdefault(path.name.removesuffix(".gz"), path)  # packed and unpacked count once
    images = list(found.values())
    if not images:
        raise FileNotFoundError(f"no MNIST files (*-images-idx3-ubyte) in {folder}")
    labels = [p.with_name(p.name.replace("images-idx3", "labels-idx1")) for p in images]
    pixels = np.concatenate([_read_idx(p).reshape(-1, 784) for p in images]) / 255.0
    classes = np.concatenate([_read_idx(p) for p in labels]).astype(np.int64)
    if classes.shape != pixels.shape[:1]:
        raise ValueError(f"{len(pixels)} images and {classes.size} labels in {folder}")
    return Images("mnist", pixels, classes)


def _read_cifar10(folder: Path) -> Images:
    archives = _find(folder, "cifar10*.npz")
    if not archives:
        raise FileNotFoundError(f"no CIFAR-10 archive (cifar10*.npz) in {folder}")
    with np.load(archives[0], allow_pickle=False) as archive:
        arrays = {k: archive[k] for k in sorted(archive.files) if k[:2] in ("x_", "y_")}
    parts = sorted(k[2:] for k in arrays if k[:2] == "x_")
    images = [arrays[f"x_{k}"] for k in parts]
    labels = [arrays.get(f"y_{k}", np.empty(0)) for k in parts]
    if not parts or any(
        x.ndim != 4 or x.dtype != np.uint8 or y.shape != x.shape[:1]
        for x, y in zip(images, labels, strict=True)
    ):
        raise ValueError(f"{archives[0].name} must hold byte images x_* (n, h, w, c), labels y_*")
    pixels = np.concatenate([x.reshape(len(x), -1) for x in images]) / 255.0
    return Images("cifar10", pixels, np.concatenate(labels).astype(np.int64))
