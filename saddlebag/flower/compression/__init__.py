"""Compression around any Flower strategy: both ends, the schema, the ledger."""
