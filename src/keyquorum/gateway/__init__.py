"""One HTTPS call from any language: fan-out to nodes and mint relay, without authority."""
