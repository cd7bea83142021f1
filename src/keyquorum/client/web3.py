"""web3.py 8 middleware that signs `eth_sendTransaction` of a `PkpAccount`; needs web3, which is not installed with us.

    w3.middleware_onion.inject(signing_middleware(account), layer=0)

It is web3.py's own middleware (nonce, gas and fees are filled in as always), except that for `AsyncWeb3` the
signature is awaited on a thread, so that the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Any

from web3.middleware import SignAndSendRawMiddlewareBuilder

from keyquorum.client.account import PkpAccount, register_with_web3


class PkpMiddlewareBuilder(SignAndSendRawMiddlewareBuilder):
    """web3.py's signing middleware, off the event loop."""

    async def async_request_processor(self, method: Any, params: Any) -> Any:
        """Sign and rewrite `eth_sendTransaction`; everything else passes through."""
        if method != "eth_sendTransaction":
            return method, params
        account = self._account
        transaction = dict(params[0])
        if str(transaction.get("from", "")).lower() != account.address.lower():
            return method, params
        transaction.pop("from")
        signed = await asyncio.to_thread(account.sign_transaction, transaction)
        return "eth_sendRawTransaction", [signed.raw_transaction.to_0x_hex()]

    _account: PkpAccount


def signing_middleware(account: PkpAccount) -> Any:
    """Return the middleware for `w3.middleware_onion`, synchronous or asynchronous."""
    register_with_web3()

    def build(w3: Any) -> Any:
        middleware = PkpMiddlewareBuilder(w3)
        vars(middleware)["_accounts"] = {account.address: account}
        middleware._account = account
        return middleware

    return build
