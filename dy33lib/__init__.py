"""dy33lib: the algorithms behind the executable book dy33.

One module per talk of the session DPG DY 33, and a few shared ones:

- `ntk`: neural tangent kernels and neural scaling laws (chapter 1);
- `datasets`: images for the chapters that learn from images;
- `claims`: the ledger that holds what a chapter measured against what it should be;
- `figures`: the look of the figures, static and interactive;
- `progress`: a line that tells how far a sweep has come;
- `exercises`: self-checks for the exercises.

Importing the library changes no global setting of JAX, NumPy or Matplotlib.
"""

__version__ = "0.1.0"
