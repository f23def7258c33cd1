"""Games in closed form: affine operators held as matrices, and matrix games on simplices."""
