"""Who is asking: login methods (one a file), session certificates, signed requests. Pure."""
