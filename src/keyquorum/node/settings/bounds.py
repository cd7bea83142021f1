"""What no setting may exceed, because something below it is made for that much."""

LARGEST_BATCH = 96
"""Correlations in a batch: a reply has 40,000 bytes for each and must fit `wire.MESSAGE_LIMIT`."""
