"""Recipes: the TOML file, its sections and fields, what plug-ins add."""
