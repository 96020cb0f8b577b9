import jax
import numpy as np
import pytest
from jaxtyping import config

# Before anything is traced: double precision, and silent casts and broadcasts become errors.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def unchecked():
    """Switch the run-time type checks off: users do without them, and get our own messages."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
