"""Intervals and probabilities that are right for every group at once."""
