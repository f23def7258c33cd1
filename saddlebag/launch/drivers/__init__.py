"""What carries a run: one process, a server and workers, ranks, nodes."""
