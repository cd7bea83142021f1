"""What Ethereum fixes and several rooms need: addresses, names of keys, and the digests that our contracts compute."""
