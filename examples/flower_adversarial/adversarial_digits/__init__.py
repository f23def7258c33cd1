"""Adversarial training of the digits transformer, as a Flower app."""
