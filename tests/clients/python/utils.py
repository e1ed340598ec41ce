"""What python-memcached's tests import from beside them, and its source distribution does not have."""

import contextlib
import io
import sys


@contextlib.contextmanager
def captured_stderr():
    """Gives what is written to the standard error as it is written."""
    before, sys.stderr = sys.stderr, io.StringIO()
    try:
        yield sys.stderr
    finally:
        sys.stderr = before
