"""The sans-I/O kernel that drives a multi-party protocol; it knows no cryptography."""
