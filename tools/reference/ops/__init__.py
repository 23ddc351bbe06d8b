"""Op conformance goldens for packages/tensor: one module per op family, see ../README.md for the row format."""

import importlib

FAMILIES = ["elementwise", "cast", "movement", "join", "reduce", "matmul", "conv", "index", "norm", "attention", "derived", "resample"]


def generate() -> None:
    for family in FAMILIES:
        importlib.import_module(f"ops.{family}").rows().write()
    importlib.import_module("ops.prints").generate()
