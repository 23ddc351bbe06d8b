"""Imports the authors' own model code from checkouts in tools/reference/.cache (see README); nothing of it is committed."""

import contextlib
import logging
import sys
import types
from pathlib import Path

CACHE = Path(__file__).resolve().parent / ".cache"


@contextlib.contextmanager
def source(folder: str):
    """Makes `<cache>/<folder>/src` importable inside the block; logging packages that the models do not need are stood in for."""
    path = CACHE / folder / "src"
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing: clone the repository as tools/reference/README.md says")
    if "loguru" not in sys.modules:
        sys.modules["loguru"] = types.ModuleType("loguru")
        sys.modules["loguru"].logger = logging.getLogger("official")
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))
