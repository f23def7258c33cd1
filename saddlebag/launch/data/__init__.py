"""Readers of the data formats that recipes name."""

from saddlebag.moved import names_from

__getattr__ = names_from("launch.data", "launch.data.rows")
