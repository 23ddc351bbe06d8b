"""Imports the authors' own model code from checkouts in tools/reference/.cache (see README); nothing of it is committed."""

import contextlib
import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).resolve().parent / ".cache"
COMMITS = {"flux": "802fb4713906133fc0bbeb8dc42a51b47e0b2d4d", "Z-Image": ""}


@contextlib.contextmanager
def source(folder: str):
    """Makes `<cache>/<folder>/src` importable inside the block."""
    path = CACHE / folder / "src"
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing: clone the repository as tools/reference/README.md says")
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))
