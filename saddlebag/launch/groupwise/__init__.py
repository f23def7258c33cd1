"""Groupwise studies: data and groups from recipes, runs over shuffles, reports per group, and their command line."""
