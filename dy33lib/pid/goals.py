"""Goals that have been published, and what their numbers belong to.

Coefficients of the atoms in the order of :func:`.antichains`, with the feed-forward field as
source 1, then of the residual entropy. They are those of the authors' repository, rounded to four
decimals: github.com/Priesemann-Group/Infomorphic_Networks.
"""

from typing import NamedTuple

import numpy as np

from dy33lib.pid.lattices import antichains, name


class Goal(NamedTuple):
    """A goal for the neurons of a layer.

    Attributes:
        sources: what the neurons see besides the image or the layer below.
        gamma: coefficients of the atoms and of the residual entropy.
    """

    sources: tuple[str, ...]
    gamma: tuple[float, ...]

    def terms(self) -> dict[str, float]:
        """The coefficients that are not zero, by the names of their atoms, such as {F}{CL}."""
        letters = "F" + "".join(source[0].upper() for source in self.sources)
        names = [name(alpha, letters) for alpha in antichains(len(letters))] + ["H_res"]
        return {n: g for n, g in zip(names, self.gamma, strict=True) if g != 0}


_BOTH = ("context", "lateral")


def _goal(text: str) -> Goal:
    return Goal(_BOTH, tuple(np.array(text.split(), float).tolist()))


GOALS: dict[str, Goal] = {
    "heuristic": Goal(_BOTH, (0.0, 1.0) + (0.0,) * 17),
    "four terms": Goal(_BOTH, (0.33, 1.0, -1.0) + (0.0,) * 8 + (-1.0,) + (0.0,) * 7),
    "optimised": _goal(
        "0.3307 0.9781 -0.9935 0.4017 0.2428 0.6255 0.4713 0.0212 0.0605 -0.947 -0.0199 "
        "-0.9677 -0.6924 0.427 0.9736 0.737 -0.1218 -0.2151 0.035",
    ),
    "optimised, second run": _goal(
        "0.4063 0.5964 -0.8235 0.9655 0.5365 0.5808 -0.3775 0.2092 -0.6978 0.6948 -0.9707 "
        "-0.2499 -0.1526 -0.0443 0.0591 -0.9609 -0.7671 -0.3487 0.0687",
    ),
    "optimised, third run": _goal(
        "0.0047 0.931 -0.7651 0.6217 0.8813 -0.0993 0.4014 0.0393 0.4507 0.2341 -0.2553 "
        "0.0749 0.5514 0.7033 -0.1371 -0.3116 -0.065 -0.4913 0.0077",
    ),
    "optimised by CMA-ES": _goal(
        "0.2102 0.986 -0.4487 0.4683 -0.6238 0.4327 0.8413 0.0097 -0.4121 -0.4813 -0.1412 "
        "-0.7058 -0.5329 0.1494 0.7099 0.3392 0.7866 0.0572 0",
    ),
    "optimised by CMA-ES, second run": _goal(
        "-0.0432 0.5292 -0.9113 -0.2561 0.4609 -0.1935 0.4576 -0.0656 -0.4901 -0.6262 "
        "-0.1703 0.1658 -0.4324 0.1468 0.4753 -0.6429 -0.19 0.3085 0.035",
    ),
    "optimised by CMA-ES, third run": _goal(
        "0.1496 0.779 -0.7809 0.6631 0.6467 0.8358 0.4123 0.0167 0.2291 -0.8101 -0.209 "
        "-0.5308 -0.4592 -0.0443 -0.1749 -0.2896 -0.3371 0.147 0.0687",
    ),
    "optimised, 1000 neurons": _goal(
        "0.954 -0.4539 -0.9784 -0.8978 0.195 0.1018 -0.8268 0.9748 0.4571 -0.8036 0.0495 "
        "0.9632 0.9138 -0.4792 -0.2282 -0.0666 0.4854 0.8913 -0.2214",
    ),
    "optimised, CIFAR-10": _goal(
        "0.9838 0.6048 -0.2133 0.2427 0.3396 -0.579 0.05 0.0336 0.5974 -0.0782 0.4762 "
        "-0.8475 -0.3992 0.5563 0.2715 -0.4623 -0.0628 -0.2629 0",
    ),
    "context, heuristic": Goal(("context",), (0.0, 0.0, 1.0, 0.0, 0.0)),
    "context, optimised": Goal(("context",), (-0.099, 0.3916, 0.5118, 0.5942, 0.0885)),
    "lateral, heuristic": Goal(("lateral",), (1.0, 0.0, 0.0, 0.0, 0.0)),
    "lateral, optimised": Goal(("lateral",), (0.8281, -0.2038, 0.903, 0.5267, 0.135)),
}
OUTPUT = Goal(("label",), (-0.2, 0.1, 1.0, 0.1, 0.0))
