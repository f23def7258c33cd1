"""MASHA and its kin: an anchor point, and differences to it that are compressed."""
