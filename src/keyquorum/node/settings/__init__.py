"""What an operator writes: every setting of a node, its default and its bounds."""
