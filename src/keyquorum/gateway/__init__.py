"""The gateway: fan-out of signed requests, and a relay that pays for mints. No authority."""
