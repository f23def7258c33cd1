"""What every machine works out alike from what all of them know, at no traffic.

Steps and grids that set themselves, one grid for sums of whole numbers, and the part of an operator that need not be sent.
"""
