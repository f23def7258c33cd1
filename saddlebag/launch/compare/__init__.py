"""Methods compared by bytes, rounds and time."""

from saddlebag.moved import names_from

__getattr__ = names_from("launch.compare", "launch.compare.running")
