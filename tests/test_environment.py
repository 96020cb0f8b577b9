import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(r) for r in chain(PROJECT["dependencies"], *EXTRAS.values())]
TALKS = yaml.safe_load((ROOT / "book" / "session.yml").read_text())["talks"]
ROOMS = [
    "ntk", "criticality", "pid", "hessian", "flows", "multicanonical", "microstructure",
    "granular", "reactions", "sindy", "magnons", "mlip", "fullerene",
]  # fmt: skip


# The compiler ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [(16385, np.float64), (20000, np.float64), (32769, np.float64), (32769, np.float32)],
)
def test_the_compiler_returns_right_numbers(rng, rows, dtype):
    """Some releases return wrong rows here without a warning (jax-ml/jax issue 39103)."""
    A = rng.normal(size=(3, 3)).astype(dtype)
    X = rng.normal(size=(rows, 3)).astype(dtype)
    found = jax.jit(jax.vmap(lambda x: jnp.sum((A @ x) ** 2)))(X)
    tolerance = 1e-10 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(found, np.sum((X @ A.T) ** 2, axis=1), rtol=tolerance)


@pytest.mark.parametrize("name", ["jax", "jaxlib"])
def test_known_bad_releases_are_excluded(name):
    (requirement,) = [
        Requirement(r) for r in PROJECT["dependencies"] if Requirement(r).name == name
    ]
    for bad in ("0.10.2", "0.11.0"):
        assert version(name) != bad
        assert not requirement.specifier.contains(bad)
    assert requirement.specifier.contains(version(name))


# The lock ----------------------------------------------------------------------------------------


LOCK = (ROOT / "requirements.lock").read_text()
PINS = [Requirement(line) for line in LOCK.splitlines() if re.match(r"\w", line)]


def test_the_lock_pins_every_requirement():
    assert len(PINS) > len(REQUIREMENTS)
    for pin in PINS:
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
    for requirement in REQUIREMENTS:
        name = canonicalize_name(requirement.name)
        pins = [p for p in PINS if canonicalize_name(p.name) == name]
        assert pins, f"{requirement} is not in the lock"
        assert [p for p in pins if p.marker is None or p.marker.evaluate()]
        for pin in pins:
            (specifier,) = pin.specifier
            assert requirement.specifier.contains(specifier.version), f"{pin} for {requirement}"


def test_the_lock_names_no_host():
    assert not re.search(r"://|https?:|@", LOCK)
    for line in LOCK.splitlines():
        assert re.fullmatch(r"(\w[\w.-]*==[\w.+!]+( ; .*)?|\s*#.*|\s*)", line), line
    assert "index-url " not in LOCK.replace("--no-emit-index-url ", "")


def test_what_is_installed_satisfies_the_requirements():
    for requirement in REQUIREMENTS:
        assert requirement.specifier.contains(version(requirement.name)), requirement


# Binder ------------------------------------------------------------------------------------------


def test_conda_brings_only_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    names = [re.split(r"[=<> ]", entry)[0] for entry in environment["dependencies"]]
    assert sorted(names) == ["pip", "python"]
    (python,) = [entry for entry in environment["dependencies"] if entry.startswith("python")]
    least = PROJECT["requires-python"].removeprefix(">=")
    assert python == f"python={least}"
    assert environment["channels"] == ["conda-forge"]


def test_binder_installs_the_locked_notebook():
    path = ROOT / "postBuild"
    script = path.read_text()
    assert script.startswith("#!/bin/bash\n")
    assert path.stat().st_mode & 0o111, "Binder runs postBuild itself"
    assert re.search(r"^set -\w*e", script, re.M)
    (install,) = re.findall(r"^.*\bpip install\b.*$", script, re.M)
    assert "-c requirements.lock" in install
    assert re.search(r'-e "?\.\[notebook\]"?', install)
    subprocess.run(["bash", "-n", path], check=True)


# The library -------------------------------------------------------------------------------------


IMPORT_ALL = """
import sys
import jax, matplotlib, numpy
before = [dict(jax.config.values), dict.copy(matplotlib.rcParams), numpy.get_printoptions(),
          numpy.geterr(), matplotlib.get_backend(auto_select=False)]
import dy33lib.ntk
assert "IPython" not in sys.modules, "dy33lib.ntk imports IPython"
import importlib, pkgutil
import dy33lib
for module in pkgutil.walk_packages(dy33lib.__path__, "dy33lib."):
    importlib.import_module(module.name)
after = [dict(jax.config.values), dict.copy(matplotlib.rcParams), numpy.get_printoptions(),
         numpy.geterr(), matplotlib.get_backend(auto_select=False)]
for one, other in zip(before, after):
    if isinstance(one, dict):  # parts of JAX bring settings of their own when they are imported
        one, other = ({k: repr(some[k]) for k in one} for some in (one, other))
    assert one == other, set(one.items()) ^ set(other.items())
print(sum(name.startswith("dy33lib.") for name in sys.modules))
"""


def test_importing_the_library_changes_no_setting():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALL], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) >= 10


def imported(source: str, package: str) -> set[str]:
    """Full names of all that a source file in a package imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join(
                [*(parts if node.level else []), *([node.module] if node.module else [])]
            )
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def rooms_of(names: set[str]) -> set[str]:
    found = [re.match(r"dy33lib\.(\w+)", name) for name in names]
    return {match[1] for match in found if match} & set(ROOMS)


def test_imports_are_found():
    source = (
        "from dy33lib import pid, ntk\nimport dy33lib.flows.x\ndef f():\n  from ..mlip import g"
    )
    assert rooms_of(imported(source, "dy33lib.ntk")) == {"pid", "ntk", "flows", "mlip"}
    assert rooms_of(imported("from . import mlip\nimport granular", "dy33lib")) == {"mlip"}


def test_the_rooms_are_those_of_the_session():
    assert [talk["module"] for talk in TALKS] == ROOMS
    assert [talk["number"] for talk in TALKS] == list(range(1, 14))


def test_no_talk_needs_the_package_of_another():
    paths = sorted((ROOT / "dy33lib").rglob("*.py"))
    assert len(paths) > 10
    for path in paths:
        inside = path.relative_to(ROOT / "dy33lib").with_suffix("").parts
        package = ".".join(("dy33lib", *inside[:-1]))
        allowed = {inside[0]} & set(ROOMS)
        if inside[0] == "answers" and inside[1] != "__init__":
            allowed = {ROOMS[int(inside[1].removeprefix("ch")) - 1]}
        assert rooms_of(imported(path.read_text(), package)) <= allowed, path.name


def test_every_package_is_installed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "dy33lib").rglob("__init__.py")
    }
    assert set(settings["packages"]) == packages


def test_binder_and_the_makefile_have_one_heap():
    """What is measured here is what Binder has, whose memory is short."""
    start = ROOT / "start"
    assert start.stat().st_mode & 0o111, "Binder runs start itself"
    script = start.read_text()
    assert "export MALLOC_ARENA_MAX=1\n" in script and script.endswith('exec "$@"\n')
    assert "\nexport MALLOC_ARENA_MAX = 1\n" in (ROOT / "Makefile").read_text()
