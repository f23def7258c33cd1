"""Readers of the data formats that recipes name."""
