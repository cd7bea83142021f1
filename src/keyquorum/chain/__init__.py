"""The EVM chain: JSON-RPC client, contract bindings, and the embedded development chain."""
