"""From a file's rows to features, labels and groups."""
