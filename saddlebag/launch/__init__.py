"""Launch: from a recipe to a run. Command lines, recipes, processes, output; only here are files and the environment read."""
