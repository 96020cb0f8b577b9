"""dy33lib: the algorithms behind the executable book dy33.

One module per talk of the session DPG DY 33, and a few shared ones:

- `ntk`: neural tangent kernels and neural scaling laws (chapter 1);
- `criticality`: dynamic range of recurrent networks at finite integration time (chapter 2);
- `pid`: local learning from partial information decomposition (chapter 3);
- `hessian`: symmetries of the Hessian of a loss (chapter 4);
- `flows`: free energies by flows that are told temperature and pressure (chapter 5);
- `multicanonical`: densities of states by autoregressive networks (chapter 6);
- `sindy`: sparse identification of reaction rates (chapter 10);
- `magnons`: where to count next in neutron scattering (chapter 11);
- `particles`: the Lennard-Jones system and its sampling at constant pressure;
- `datasets`: images for the chapters that learn from images;
- `claims`: the ledger that holds what a chapter measured against what it should be;
- `figures`: the look of the figures, static and interactive;
- `progress`: a line that tells how far a sweep has come;
- `exercises`: self-checks for the exercises.

Importing the library changes no global setting of JAX, NumPy or Matplotlib.
"""

__version__ = "0.1.0"
