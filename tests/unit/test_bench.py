"""The benchmark puts its stopwatch around steps by their names: every one of them must be there."""

import subprocess
import sys


def test_every_stage_that_is_timed_exists() -> None:
    """In a process of its own, since the stopwatch stays on what it is put around."""
    code = "from bench.stages import watch_pipeline; print(*watch_pipeline().missing)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "")
