"""The `keyquorum` command: one file per command group."""
