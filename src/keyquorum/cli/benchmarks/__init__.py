"""Measures what the project promises in figures; `keyquorum bench` prints it."""
