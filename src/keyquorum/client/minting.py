"""A mint for an owner that can be asked for again: what names it, and how its key is known.

Each request has a name that its asker makes up. The contract keeps, for whoever sent the mint and that name, the key
(`PKPHelper.keyOfRequest`): so asking again gives the same key, and the asker sees for himself that this key was minted
for his request and is not one that was there before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec
from eth_hash.auto import keccak

from keyquorum.chain.mints import mint_request
from keyquorum.client.checks import fresh_key, made_key, named_key, named_payer
from keyquorum.client.errors import BadAnswer
from keyquorum.client.network import ChainView
from keyquorum.client.results import Key

REQUEST = re.compile(r"[A-Za-z0-9_-]{16,64}")


class GatewayMinted(msgspec.Struct):
    """The gateway's answer; `relay` is the account that pays, `transaction` None for a key that was there already."""

    token_id: str
    relay: str
    transaction: str | None = None


@dataclass(frozen=True, slots=True)
class MintRequest:
    """A mint that is asked for: to whom (checksummed), and the asker's own name for it, 16 to 64 characters."""

    owner: str
    request: str

    def __post_init__(self) -> None:
        if not REQUEST.fullmatch(self.request):
            raise ValueError("request must be 16 to 64 letters, digits, - or _")

    @property
    def id(self) -> bytes:
        """What names it in the contract: the same request for another owner is another one."""
        return keccak(b"keyquorum.mint.v1" + bytes.fromhex(self.owner[2:]) + self.request.encode())

    def call(self, chain: ChainView) -> bytes:
        """Return the call of PKPHelper that mints it once."""
        return chain.contract("PKPHelper").encode("mintOnce", mint_request(self.id, (), (), to=self.owner))

    async def key_of(self, chain: ChainView, payer: str, block: str = "latest") -> int:
        """Return the token id that `payer` has minted for it, at `block`; 0: none."""
        helper = chain.contract("PKPHelper")
        return int(await chain.ask(helper, "keyOfRequest", payer, self.id, block=block))

    async def verified(self, chain: ChainView, answer: GatewayMinted, seconds: float) -> tuple[Key, str]:
        """Return the key that a gateway names, and who paid; raise `BadAnswer` unless the chain has it so."""
        token, payer = named_key(answer.token_id), named_payer(answer.relay)
        if answer.transaction is not None:
            await made_key(chain, answer.transaction, token, seconds)
        if await self.key_of(chain, payer) != token:
            raise BadAnswer("bad_answer", "the gateway's key was not minted for this request")
        return await fresh_key(chain, token, self.owner), payer
