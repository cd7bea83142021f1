"""What callers may ask of a node: who they are, what they may, how much, and what they get."""
