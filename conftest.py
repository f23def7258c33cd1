"""Threads as the command line sets them, before anything imports numpy: the bits of a sum depend on their number."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
