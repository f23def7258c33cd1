"""What is kept and shown of a run: metrics, tables, plots, pictures."""
