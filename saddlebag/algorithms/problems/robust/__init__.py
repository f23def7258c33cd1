"""Robust training: a model against an adversary that weighs samples, groups or workers, or moves targets."""
