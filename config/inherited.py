"""The process's environment itself: nobody else reads it."""

from __future__ import annotations

import os


def process_environ() -> dict[str, str]:
    """A copy of this process's environment variables, ours and all others."""
    return dict(os.environ)
