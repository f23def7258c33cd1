"""Methods whose messages are about some of the coordinates: those that still move, masks, and index sets."""
