"""What the benchmarks share: talking to a worker in another environment."""

import json
import subprocess


def ask(process: subprocess.Popen, *request: str) -> dict:
    """Send a request to a worker, a line of JSON, and return its reply."""
    print(json.dumps(request), file=process.stdin, flush=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the worker died: {process.args}")
    return json.loads(line)
