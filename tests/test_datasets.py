import gzip
import hashlib
import re
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from dy33lib import datasets
from dy33lib.datasets import Images, load_shipped, load_vision, vision_task

DATA = Path(datasets.__file__).parent / "data"


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    monkeypatch.delenv("DY33_DATA", raising=False)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(datasets.sklearn_datasets, "fetch_openml", refuse)


# Digits and the network --------------------------------------------------------------------------


def test_digits():
    images = load_vision("digits")
    assert images.name == "digits"
    assert images.pixels.shape == (1797, 64)
    assert images.pixels.dtype == np.float64
    assert (images.pixels.min(), images.pixels.max()) == (0, 1)
    assert images.labels.shape == (1797,)
    assert images.labels.dtype == np.int64
    assert set(images.labels) == set(range(10))


def test_unknown_images_are_refused():
    with pytest.raises(ValueError, match="digits, mnist or cifar10, got 'imagenet'"):
        load_vision("imagenet", download=True)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_without_folder_it_says_how_to_name_one(name):
    with pytest.raises(FileNotFoundError, match=f"{name} is not shipped.*DY33_DATA.*download=True"):
        load_vision(name)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("problem", [URLError("no route"), TimeoutError("late"), OSError("gone")])
def test_without_network_it_says_so(monkeypatch, name, problem):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(datasets.sklearn_datasets, "fetch_openml", fail)
    with pytest.raises(ConnectionError, match=f"OpenML cannot be reached for {name}") as caught:
        load_vision(name, download=True)
    assert caught.value.__cause__ is problem


def test_images_of_openml_are_scaled(monkeypatch):
    def fetch(name, **options):
        assert name == "mnist_784"
        assert options["return_X_y"]
        return np.array([[0, 51], [255, 102]]), np.array(["7", "0"], object)

    monkeypatch.setattr(datasets.sklearn_datasets, "fetch_openml", fetch)
    images = load_vision("mnist", download=True)
    np.testing.assert_allclose(images.pixels, [[0, 0.2], [1, 0.4]])
    assert images.labels.tolist() == [7, 0]
    assert images.labels.dtype == np.int64


# MNIST -------------------------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray) -> None:
    data = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data += array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_mnist(folder: Path, pixels, labels, part="train", ending="") -> None:
    write_idx(folder / f"{part}-images-idx3-ubyte{ending}", pixels)
    write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", labels)


@pytest.fixture
def drawn(rng):
    return rng.integers(0, 256, (6, 28, 28)), rng.integers(0, 10, 6)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("inside", ["", "mnist"])
@pytest.mark.parametrize("variable", [False, True])
def test_mnist_is_read_from_files(tmp_path, monkeypatch, drawn, ending, inside, variable):
    pixels, labels = drawn
    write_mnist(tmp_path / inside, pixels, labels, ending=ending)
    if variable:
        monkeypatch.setenv("DY33_DATA", str(tmp_path))
    images = load_vision("mnist", None if variable else tmp_path)
    assert images.name == "mnist"
    np.testing.assert_array_equal(images.pixels, pixels.reshape(6, 784) / 255)
    np.testing.assert_array_equal(images.labels, labels)
    assert images.labels.dtype == np.int64


def test_the_parts_of_mnist_are_joined(tmp_path, drawn):
    pixels, labels = drawn
    write_mnist(tmp_path, pixels[:4], labels[:4], part="train")
    write_mnist(tmp_path, pixels[4:], labels[4:], part="t10k", ending=".gz")
    images = load_vision("mnist", tmp_path)
    order = [4, 5, 0, 1, 2, 3]
    np.testing.assert_array_equal(images.pixels, pixels[order].reshape(6, 784) / 255)
    np.testing.assert_array_equal(images.labels, labels[order])


def test_a_file_that_lies_there_packed_and_unpacked_is_read_once(tmp_path, drawn):
    for ending in ("", ".gz"):
        write_mnist(tmp_path, *drawn, ending=ending)
    assert len(load_vision("mnist", tmp_path).labels) == 6


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\x89PNG....", b"\0\0\x0d\x03" + bytes(40)])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_what_is_no_idx_file_is_refused(tmp_path, drawn, data, ending):
    write_mnist(tmp_path, *drawn, ending=ending)
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    path.write_bytes(gzip.compress(data) if ending else data)
    with pytest.raises(ValueError, match=f"{re.escape(path.name)} is not an IDX file"):
        load_vision("mnist", tmp_path)


def test_a_truncated_file_is_refused(tmp_path, drawn):
    write_mnist(tmp_path, *drawn)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="reshape"):
        load_vision("mnist", tmp_path)


def test_images_need_as_many_labels(tmp_path, drawn):
    pixels, labels = drawn
    write_mnist(tmp_path, pixels, labels[:5])
    with pytest.raises(ValueError, match="labels"):
        load_vision("mnist", tmp_path)


def test_mnist_that_is_not_there_is_missed(tmp_path, drawn):
    with pytest.raises(FileNotFoundError, match="no MNIST files"):
        load_vision("mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_vision("mnist", tmp_path / "nowhere")
    write_idx(tmp_path / "train-images-idx3-ubyte", drawn[0])
    with pytest.raises(FileNotFoundError, match="labels-idx1"):
        load_vision("mnist", tmp_path)


# CIFAR-10 ----------------------------------------------------------------------------------------


def test_cifar10_is_read_from_an_archive(tmp_path, rng):
    x = rng.integers(0, 256, (7, 4, 4, 3)).astype(np.uint8)
    y = rng.integers(0, 10, 7).astype(np.uint8)
    parts = {"x_test": x[:2], "y_test": y[:2], "x_train": x[2:], "y_train": y[2:]}
    np.savez(tmp_path / "cifar10-small.npz", **parts, names=np.arange(3))
    images = load_vision("cifar10", str(tmp_path))
    assert images.name == "cifar10"
    np.testing.assert_array_equal(images.pixels, x.reshape(7, 48) / 255)
    np.testing.assert_array_equal(images.labels, y)
    assert images.labels.dtype == np.int64


X, Y = np.zeros((3, 4, 4, 3), np.uint8), np.zeros(3, int)


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": X, "labels": Y},
        {"x_train": X},
        {"y_train": Y},
        {"x_train": X, "y_test": Y},
        {"x_train": X, "y_train": Y[:2]},
        {"x_train": X, "y_train": Y[:, None]},
        {"x_train": X.reshape(3, -1), "y_train": Y},
        {"x_train": X, "y_train": Y, "x_test": X},
    ],
)
def test_bad_archives_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "cifar10.npz", **arrays)
    with pytest.raises(ValueError, match=r"cifar10\.npz must hold byte images x_\*"):
        load_vision("cifar10", tmp_path)


def test_cifar10_that_is_not_there_is_missed(tmp_path):
    np.savez(tmp_path / "images.npz", x_train=X, y_train=Y)
    with pytest.raises(FileNotFoundError, match="no CIFAR-10 archive"):
        load_vision("cifar10", tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_vision("cifar10", tmp_path / "nowhere")


# Tasks -------------------------------------------------------------------------------------------


@pytest.fixture
def images(rng):
    return Images("noise", rng.random((40, 9)), np.arange(40) % 4)


def task(images, seed=0, **counts):
    counts = {"train": 12, "test": 7, "validation": 5, **counts}
    return vision_task(images, rng=np.random.default_rng(seed), **counts)


def rows(*sets) -> np.ndarray:
    """The images behind the rows: their inputs point where the centred images do."""
    return np.concatenate([inputs for inputs, _ in sets]).round(9)


def test_the_sets_are_disjoint(images):
    parts = task(images, train=28, test=7, validation=5)
    assert [len(p[0]) for p in parts] == [len(p[1]) for p in parts] == [28, 5, 7]
    assert len(np.unique(rows(*parts), axis=0)) == 40


def test_inputs_are_centred_images_of_one_length(images):
    whole = task(images, train=35, test=5, validation=0)
    inputs = np.concatenate([whole.train[0], whole.test[0]])
    np.testing.assert_allclose(np.sum(inputs**2, axis=1), 9, rtol=1e-12)
    order = np.random.default_rng(0).permutation(40)
    centred = images.pixels[order] - images.pixels[order[5:]].mean(axis=0)
    expected = centred * 3 / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(whole.test[0], expected[:5], rtol=1e-12)
    np.testing.assert_allclose(whole.train[0], expected[5:], rtol=1e-12)


def test_targets_are_centred_and_belong_to_their_images(images):
    whole = task(images, train=28, test=7, validation=5)
    order = np.random.default_rng(0).permutation(40)
    labels = np.concatenate([whole.test[1], whole.validation[1], whole.train[1]])
    np.testing.assert_allclose(labels.sum(axis=1), 0, atol=1e-15)
    np.testing.assert_array_equal(labels.argmax(axis=1), images.labels[order])
    np.testing.assert_allclose(np.sort(labels, axis=1), [[-0.25, -0.25, -0.25, 0.75]] * 40)


def test_training_sets_nest_and_test_sets_stay(images):
    small, large = task(images, train=3), task(images, train=20)
    for part in ("test", "validation"):
        for one, other in zip(getattr(small, part), getattr(large, part), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(small.train, large.train, strict=True):
        np.testing.assert_array_equal(one, other[:3])
    other = task(images, seed=1)
    assert not np.array_equal(other.test[0], large.test[0])
    assert len(task(images, validation=0).validation[0]) == 0


def test_test_images_do_not_touch_the_training_set(images):
    chosen = np.random.default_rng(0).permutation(40)[:7]
    pixels = images.pixels.copy()
    pixels[chosen] = 1 - pixels[chosen]
    before, after = task(images), task(images._replace(pixels=pixels))
    np.testing.assert_array_equal(before.train[0], after.train[0])
    np.testing.assert_array_equal(before.validation[0], after.validation[0])
    assert np.all(np.any(before.test[0] != after.test[0], axis=1))
    pixels[np.random.default_rng(0).permutation(40)[-1]] += 0.5  # one that is in no set
    assert np.any(task(images._replace(pixels=pixels)).train[0] != before.train[0])


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train": 0}, "must be positive: train=0, test=7"),
        ({"test": 0}, "must be positive: train=12, test=0"),
        ({"train": -1}, "train=-1"),
        ({"test": -1}, "test=-1"),
        ({"validation": -1}, "positive"),
        ({"train": 29}, "asked for 41 of 40 noise images"),
    ],
)
def test_impossible_sizes_are_refused(images, counts, message):
    with pytest.raises(ValueError, match=message):
        task(images, **counts)


def test_an_image_without_contrast_is_refused():
    flat = Images("flat", np.ones((8, 4)), np.zeros(8, int))
    with pytest.raises(ValueError, match="image 0 of flat has no contrast"):
        task(flat, train=2, test=2, validation=0)


# What is shipped ---------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the shipped data that may be spoilt."""
    shutil.copytree(DATA, tmp_path / "data")
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "datasets.py"))
    return tmp_path / "data"


def test_shipped_files_are_those_of_the_checksums():
    sums = dict(line.split()[::-1] for line in (DATA / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {p.name for p in DATA.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest
    assert set(load_shipped("ntk_vision")) == {"images", "runs", "columns"}


def test_a_changed_file_is_refused(copy):
    path = copy / "ntk_vision.npz"
    assert load_shipped("ntk_vision")["runs"].ndim == 2
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"ntk_vision\.npz is not the file whose checksum"):
        load_shipped("ntk_vision")


def test_files_without_a_checksum_are_refused(copy):
    shutil.copy(copy / "ntk_vision.npz", copy / "other.npz")
    for name in ("other", "nothing", "../data/ntk_vision"):
        with pytest.raises(ValueError, match=r"no shipped data .* there is .*ntk_vision\.npz"):
            load_shipped(name)


def test_shipped_files_run_no_code(copy):
    path = copy / "ntk_vision.npz"
    np.savez(path, runs=np.array([{}], object))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (copy / "SHA256SUMS").write_text(f"{digest}  ntk_vision.npz\n")
    with pytest.raises(ValueError, match="allow_pickle"):
        load_shipped("ntk_vision")
