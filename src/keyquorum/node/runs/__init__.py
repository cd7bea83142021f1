"""One run of a protocol at a time: who waits for a place, whose message belongs where, when it is over."""
