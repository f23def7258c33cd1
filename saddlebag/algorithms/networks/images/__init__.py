"""Problems on pictures: a vision transformer against perturbations, and a generator against a critic."""
