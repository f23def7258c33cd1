"""Recipes as Flower strategies and sessions."""
