"""Nodes speak to nodes: authenticated links between all of them, frames, and what a peer may send."""
