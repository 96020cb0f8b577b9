"""A progress line for work that takes longer than a few seconds."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], total: int, what: str = "runs") -> Iterator[T]:
    """Pass items on and tell, in a notebook, how many came and how long the rest may take.

    The line ends as it began ("60 runs"), so an executed notebook does not depend on the clock.
    Outside a notebook nothing is shown.

    Args:
        items: what to pass on.
        total: how many there will be.
        what: the word for them.

    Yields:
        The items.
    """
    line = _display(f"{total} {what}")
    started = shown = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if line is not None and now - shown > 0.5:
            shown, left = now, (now - started) * (total - count) / count
            line.update(_text(f"{count} of {total} {what}, about {left:.0f} s left"))
    if line is not None:
        line.update(_text(f"{total} {what}"))


def _text(message: str) -> Any:
    from IPython.display import Pretty

    return Pretty(message)


def _display(message: str) -> Any:
    """A handle to a line in the notebook; None elsewhere."""
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        return None
    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return display(_text(message), display_id=True)
