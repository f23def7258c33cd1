"""Bytes: the wire schema (`v1/`), payloads and frames on the wire, states on disk."""
