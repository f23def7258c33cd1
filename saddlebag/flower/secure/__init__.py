"""Secure aggregation of any Flower app: the server learns the sum of its clients' updates, and nothing else of them."""
