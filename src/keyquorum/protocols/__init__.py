"""One published protocol a file; each reads like its page in `spec/`."""
