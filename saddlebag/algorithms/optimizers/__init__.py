"""Optimizers on replicas, fed by compressed exchanges."""
