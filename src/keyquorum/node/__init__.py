"""The node daemon: the only package with sockets, clock and disk."""
