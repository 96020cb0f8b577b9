"""Self-checks for the exercises: right or wrong, and if wrong, which physics.

The answers of a chapter lie in `dy33lib.answers.<chapter>` as a dictionary `EXERCISES`. Where an
answer can be computed it is computed there, by the library.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that is worth recognising.

    Attributes:
        value: computes the wrong answer.
        hint: what went wrong, without giving the right one away.
    """

    value: Callable[[], Any]
    hint: str


@dataclass(frozen=True)
class Exercise:
    """The right answer, how close one has to come, and the well-known wrong ones.

    Attributes:
        answer: computes the right answer.
        rtol: relative tolerance.
        atol: absolute tolerance.
        mistakes: tried in order when the answer is wrong.
        hint: what to say when none of them matches.
    """

    answer: Callable[[], Any]
    rtol: float = 1e-2
    atol: float = 0.0
    mistakes: tuple[Mistake, ...] = ()
    hint: str = "Not yet: go back to the definition and check each factor."


@dataclass(frozen=True)
class Feedback:
    """What `check` says; true when the answer is right."""

    name: str
    correct: bool
    message: str

    def __bool__(self) -> bool:
        return self.correct

    def __repr__(self) -> str:
        return f"{self.name}: {self.message}"


def check(name: str, answer: Any) -> Feedback:
    """Compare an answer with the right one.

    Args:
        name: chapter and exercise, such as "ch01.ex2".
        answer: a number or an array; None or ... stands for "not answered yet".

    Raises:
        ValueError: if there is no such exercise.
    """
    chapter, _, _ = name.partition(".")
    try:
        exercises = importlib.import_module(f"dy33lib.answers.{chapter}").EXERCISES
    except ModuleNotFoundError as error:
        if error.name != f"dy33lib.answers.{chapter}":
            raise
        raise ValueError(f"there is no chapter {chapter!r} with exercises") from error
    if name not in exercises:
        raise ValueError(f"no exercise {name!r}; {chapter} has {', '.join(sorted(exercises))}")
    exercise: Exercise = exercises[name]
    if answer is None or answer is ...:
        return Feedback(name, False, "not answered yet")
    try:
        given = np.asarray(answer, float)
    except (TypeError, ValueError):
        return Feedback(name, False, f"expected a number, got {type(answer).__name__}")
    right = np.asarray(exercise.answer(), float)
    if given.shape != right.shape:
        return Feedback(name, False, f"expected the shape {right.shape}, got {given.shape}")

    def close(value: Any) -> bool:
        return bool(np.allclose(given, value, rtol=exercise.rtol, atol=exercise.atol))

    if close(right):
        return Feedback(name, True, "right")
    for mistake in exercise.mistakes:
        if close(mistake.value()):
            return Feedback(name, False, mistake.hint)
    return Feedback(name, False, exercise.hint)
