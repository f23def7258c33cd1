"""Methods compared by bytes, rounds and time."""
