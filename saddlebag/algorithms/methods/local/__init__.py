"""Methods whose workers take several steps of their own in a round."""
