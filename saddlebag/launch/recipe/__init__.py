"""Recipes: the TOML file, its sections and fields, what plug-ins add."""

from saddlebag.moved import names_from

__getattr__ = names_from("launch.recipe", "launch.recipe.recipe")
