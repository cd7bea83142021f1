"""New keys: ceremonies, certificates by the network key, and registration on the chain."""
