"""The server of a run with secure aggregation: it learns the sum of a round's uplinks, see docs/secure.md."""
