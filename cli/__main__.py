"""`python -m cli`: what `./yeoul` runs once `.venv` is there."""

import sys

from cli.main import main

sys.exit(main(sys.argv[1:]))
