import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

from dy33lib import answers
from dy33lib.exercises import Exercise, Mistake, check

TEXT = Path(__file__).parent.parent / "text"
CHAPTERS = sorted(module.name for module in pkgutil.iter_modules(answers.__path__))
EXERCISES: dict[str, Exercise] = {
    name: exercise
    for chapter in CHAPTERS
    for name, exercise in importlib.import_module(f"dy33lib.answers.{chapter}").EXERCISES.items()
}
MISTAKES = [(name, m) for name, exercise in EXERCISES.items() for m in exercise.mistakes]


def test_there_are_answers():
    assert CHAPTERS
    for chapter in CHAPTERS:
        assert re.fullmatch(r"ch\d\d", chapter)
        numbers = [int(n.split(".ex")[1]) for n in EXERCISES if n.startswith(f"{chapter}.ex")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert numbers
    assert all(re.fullmatch(r"ch\d\d\.ex\d+", name) for name in EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_is_right(name):
    right = EXERCISES[name].answer()
    feedback = check(name, right)
    assert feedback
    assert feedback.correct
    assert repr(feedback) == f"{name}: right"
    assert check(name, np.asarray(right) * (1 + EXERCISES[name].rtol / 2))
    assert check(name, np.asarray(right, np.float32))


@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_near_is_not_right(name):
    exercise = EXERCISES[name]
    right = np.asarray(exercise.answer(), float)
    feedback = check(name, right * (1 + 3 * exercise.rtol) + 3 * exercise.atol)
    assert not feedback
    assert feedback.message == exercise.hint


@pytest.mark.parametrize(("name", "mistake"), MISTAKES)
def test_mistakes_get_their_own_hint(name, mistake):
    feedback = check(name, mistake.value())
    assert not feedback
    assert repr(feedback) == f"{name}: {mistake.hint}"


@pytest.mark.parametrize("name", EXERCISES)
def test_mistakes_are_apart_from_each_other_and_from_the_answer(name):
    exercise = EXERCISES[name]
    values = [
        np.asarray(e, float) for e in (exercise.answer(), *(m.value() for m in exercise.mistakes))
    ]
    rtol, atol = 2 * exercise.rtol, 2 * exercise.atol
    for i, one in enumerate(values):
        assert np.all(np.isfinite(one))
        for other in values[:i]:
            assert one.shape != other.shape or not np.allclose(one, other, rtol, atol)
    hints = [exercise.hint, *(m.hint for m in exercise.mistakes)]
    assert len(hints) == len(set(hints))
    assert all(hint.strip() for hint in hints)


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "not answered yet"),
        (..., "not answered yet"),
        ("forty", "expected a number, got str"),
        (object(), "expected a number, got object"),
        ([[1.0], [2.0, 3.0]], "expected a number, got list"),
        (1j, "expected a number, got complex"),
        (np.ones((7, 5)), "expected the shape"),
        (np.ones(0), "expected the shape"),
    ],
)
def test_what_is_no_answer_is_told_so(name, answer, message):
    feedback = check(name, answer)
    assert not feedback
    assert feedback.message.startswith(message)


@pytest.mark.parametrize("answer", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", EXERCISES)
def test_what_is_not_finite_is_not_right(name, answer):
    shape = np.shape(EXERCISES[name].answer())
    assert check(name, np.full(shape, answer)).message == EXERCISES[name].hint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ch98.ex1", "no chapter 'ch98'"),
        ("", "no chapter ''"),
        ("ch01.ex0", "no exercise 'ch01.ex0'; ch01 has ch01.ex1, ch01.ex2"),
        ("ch01", "no exercise 'ch01'"),
    ],
)
def test_unknown_exercises_are_refused(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check(name, 1.0)


def test_arrays_are_compared_element_by_element(monkeypatch):
    exercise = Exercise(
        answer=lambda: [1.0, 0.0],
        rtol=0.0,
        atol=0.125,
        mistakes=(Mistake(lambda: [0.0, 1.0], "swapped"), Mistake(lambda: 1.0, "one is missing")),
    )
    module = importlib.import_module(f"dy33lib.answers.{CHAPTERS[0]}")
    monkeypatch.setattr(module, "EXERCISES", {f"{CHAPTERS[0]}.ex1": exercise})
    name = f"{CHAPTERS[0]}.ex1"
    assert check(name, (1, 0))
    assert check(name, np.array([1.125, -0.125]))
    assert not check(name, [1.0, 0.2])
    assert check(name, [0, 1]).message == "swapped"
    assert check(name, [2.0, 2.0]).message == exercise.hint
    assert check(name, 1.0).message == "expected the shape (2,), got ()"


# The chapters ------------------------------------------------------------------------------------


def calls(text: str) -> list[tuple[str, str]]:
    return re.findall(r'\bcheck\(\s*"([^"]*)",\s*(.*)\)', text)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_exercise_is_asked_and_solved_in_its_chapter(chapter):
    (path,) = TEXT.glob(f"{chapter}-*.md")
    text = path.read_text()
    names = [name for name in EXERCISES if name.startswith(f"{chapter}.")]
    solution = r"^`{3,}\{solution-start\} (\S+)$(.*?)^`{3,}\{solution-end\}$"
    solutions = re.findall(solution, text, re.M | re.S)
    questions = calls(re.sub(solution, "", text, flags=re.M | re.S))
    assert questions == [(name, "...") for name in names]
    assert [label for label, _ in solutions] == [name.replace(".", "-") for name in names]
    for name, (_, body) in zip(names, solutions, strict=True):
        ((solved, answer),) = calls(body)
        assert (solved, answer == "...") == (name, False)
    labels = re.findall(r"^`{3,}\{exercise\}.*\n:label: (\S+)$", text, re.M)
    assert labels == [name.replace(".", "-") for name in names]


def test_each_chapter_with_exercises_has_answers():
    asked = {p.name[:4] for p in TEXT.glob("ch[0-9][0-9]-*.md") if calls(p.read_text())}
    assert asked == set(CHAPTERS)
