"""What is kept and shown of a run: metrics, tables, plots, pictures."""

from saddlebag.moved import names_from

__getattr__ = names_from("launch.results", "launch.results.results")
