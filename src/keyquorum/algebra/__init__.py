"""Numbers: scalars, points, polynomials, bit matrices, tagged hashes, randomness."""
