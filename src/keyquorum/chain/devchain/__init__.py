"""An EVM chain for development in one process: JSON-RPC over py-evm, funded public accounts, persistent if wanted."""

from keyquorum.chain.devchain.accounts import ACCOUNTS

__all__ = ["ACCOUNTS"]
