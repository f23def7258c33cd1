"""Adversarial training of a small transformer on handwritten digits, as a Flower app."""
