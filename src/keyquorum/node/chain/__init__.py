"""What a node believes of the chain: more than half of its endpoints, how fresh, and who may ask through it."""
