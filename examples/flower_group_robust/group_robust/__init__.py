"""Group-robust training between clients, as a Flower app."""
