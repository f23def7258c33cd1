"""What to expect of compressors and links: listing, inspection, measurement, advice."""

from saddlebag.moved import names_from

__getattr__ = names_from("launch.advice", "launch.advice.model")
