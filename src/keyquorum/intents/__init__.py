"""What is being signed: decode strictly, summarise in one line, compute the digest. Pure."""
