"""Execute chapters in fresh kernels, one core each, and record what they cost.

    python -m tools.execute book/ch01-neural-scaling-laws.ipynb
    python -m tools.execute --check book/ch01-*.ipynb   # twice, into memory: same bytes?

Writes outputs, CPU seconds and peak memory into the notebook, and fails beyond the limits.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

MAX_CPU_SECONDS = 180  # the goal is 90; CPU time, because wall time depends on the neighbours
MAX_MEBIBYTES = 1536
MAX_BYTES = 1_000_000
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    # One heap: else each thread in which XLA compiles keeps what it has freed to itself. Binder has
    # the same, from the file `start`.
    "MALLOC_ARENA_MAX": "1",
    # Without this, a kernel that inherits it would execute something else than a reader does.
    "PYTHONHASHSEED": "0",
}
PROBE = """
import json, pathlib, re, resource, sys
usage = resource.getrusage(resource.RUSAGE_SELF)
scale = 1024 * (1024 if sys.platform == "darwin" else 1)
peak = usage.ru_maxrss / scale
status = pathlib.Path("/proc/self/status")
if status.exists():  # on Linux ru_maxrss may be that of the process which started this one
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) / 1024
print(json.dumps([usage.ru_utime + usage.ru_stime, peak]))
"""


def execute(path: Path) -> tuple[nbformat.NotebookNode, float, float]:
    """A notebook executed in a fresh kernel, with its CPU seconds and peak mebibytes."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started = time.monotonic()

    def tell(cell, cell_index, **_):
        if cell.cell_type == "code" and cell_index < len(notebook.cells) - 1:
            first = next(iter(cell.source.strip().splitlines()), "")
            print(f"  {time.monotonic() - started:6.1f} s  {first[:70]}", flush=True)

    # The kernel itself says at the end what it took; that cell does not stay.
    probe = nbformat.v4.new_code_cell(PROBE)
    notebook.cells.append(probe)
    os.environ.update(ONE_CORE)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_executed=tell,
    )
    with one_core():
        client.execute()
    seconds, mebibytes = json.loads(notebook.cells.pop().outputs[0].text)
    notebook.metadata.pop("dy33_run", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    return notebook, seconds, mebibytes


@contextlib.contextmanager
def one_core():
    """Let children run on one core only, where the system can: JAX heeds no setting for that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="execute twice and compare bytes")
    arguments = parser.parse_args()
    failures = []
    for path in arguments.notebooks:
        print(f"{path.name}:", flush=True)
        notebook, seconds, mebibytes = execute(path)
        text = nbformat.writes(notebook)
        if arguments.check:
            again = nbformat.writes(execute(path)[0])
            if text != again:
                failures.append(f"{path.name} gives other bytes when executed again")
        else:
            notebook.metadata["dy33_run"] = {
                "cpu_seconds": round(seconds, 1),
                "peak_mebibytes": round(mebibytes),
            }
            nbformat.write(notebook, path)
        print(f"  {seconds:.1f} CPU s, {mebibytes:.0f} MiB, {len(text) / 1000:.0f} kB")
        for value, limit, unit in (
            (seconds, MAX_CPU_SECONDS, "CPU seconds"),
            (mebibytes, MAX_MEBIBYTES, "MiB"),
            (len(text.encode()), MAX_BYTES, "bytes"),
        ):
            if value > limit:
                failures.append(f"{path.name} takes {value:.0f} {unit}, the limit is {limit}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
