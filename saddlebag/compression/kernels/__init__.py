"""The loops that cost time, apart from what they mean: numpy always, numba (extra `fast`) where it is installed.

`plain` and `compiled` hold the same functions with the same results, bit for bit; `loader` chooses between them, and imports
the compiled ones only when a vector is large enough to pay for that.
"""
