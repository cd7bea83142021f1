"""Keyquorum: programmable key pairs that a network of nodes holds together."""

__version__ = "0.1.0"
