"""`python -m cli`: what `./yeoul` runs once `.venv` is there."""

import os
import signal
import sys

from cli.main import main

try:
    code = main(sys.argv[1:])
    sys.stdout.flush()
except BrokenPipeError:
    # Who reads has seen enough (`… | head -1`). At the end Python would try once more to write the rest.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 128 + signal.SIGPIPE
sys.exit(code)
