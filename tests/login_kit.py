"""Logins of invented people: accounts that prove themselves with SIWE, as `prove` for `login_with`."""

from __future__ import annotations

import asyncio
from typing import Any

from eth_account import Account

from keyquorum.auth.statement import Statement
from keyquorum.client.session import sign_statement
from keyquorum.evm.address import from_checksum


class Person:
    """Somebody with a wallet of his own that holds nothing."""

    def __init__(self, domain: str = "localhost") -> None:
        self.account: Any = Account.create()
        self.id = from_checksum(self.account.address)
        self._domain = domain

    async def prove(self, statement: Statement) -> dict[str, str]:
        """Return the proof for method `siwe`."""
        return await asyncio.to_thread(sign_statement, self.account, statement, self._domain)
