"""A network's contracts on a test chain, and a network key that the test holds: everything a contract test starts from.

`World` deploys with the real `deploy`, registers four nodes, lets them vote for the network key, and fills the pool.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chains import Chain, Receipt, accounts
from coincurve import PrivateKey
from eth_account.signers.local import LocalAccount

from keyquorum.algebra.curve import generator_times
from keyquorum.chain.contracts import Interface, interface
from keyquorum.chain.deploy import Deployment, NodeEntry, deploy
from keyquorum.evm.address import checksum
from keyquorum.evm.digests import key_batch_digest
from keyquorum.evm.keys import token_id

NETWORK_SECRET = 0x6E657477_6F726B
ADDRESS, ACTION, WEBAUTHN, GOOGLE = 1, 2, 3, 6
NODE_COUNT = 4


def public_key(secret: int) -> bytes:
    return generator_times(secret).to_bytes()


def node_entry(number: int, address: str | None = None) -> NodeEntry:
    address = address or accounts()[number % 10].address
    return NodeEntry(
        address, f"http://127.0.0.{number}:74{number:02}", f"10.0.0.{number}", 7000 + number, bytes([number]) * 32
    )


class ChainRpc:
    """As much of `Rpc` as reading and deploying need, on a test chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def chain_id(self) -> int:
        return self._chain.chain_id

    async def call(self, method: str, *params: Any) -> Any:
        assert method == "eth_getTransactionCount"
        return hex(self._chain.nonce(params[0]))

    async def eth_call(self, to: str, data: bytes, block: int | str = "latest", sender: str | None = None) -> bytes:
        return self._chain.call(to, data, sender)


class ChainSender:
    """The interface of `Sender`, on a test chain."""

    def __init__(self, chain: Chain, account: LocalAccount) -> None:
        self._chain, self._account = chain, account
        self.rpc = ChainRpc(chain)
        self.address: str = account.address

    async def send(self, to: str | None, data: bytes = b"", value: int = 0) -> dict[str, Any]:
        receipt = self._chain.send(to, data, self._account, value)
        return {"contractAddress": receipt.contract_address, "blockNumber": hex(receipt.block), "logs": receipt.logs}


class Bound:
    """One contract on a test chain."""

    def __init__(self, chain: Chain, address: str, abi: Interface) -> None:
        self.chain, self.address, self.interface = chain, checksum(address), abi

    def send(self, name: str, *args: Any, account: LocalAccount | None = None, **fields: int) -> Receipt:
        """Send a call; `fields` are value and gas."""
        return self.chain.send(self.address, self.encode(name, *args), account, **fields)

    def read(self, name: str, *args: Any, sender: str | None = None) -> Any:
        result = self.chain.call(self.address, self.encode(name, *args), sender)
        return self.interface.decode_result(name, result, len(args))

    def encode(self, name: str, *args: Any) -> bytes:
        return self.interface.encode(name, *args)

    def events(self, receipt: Receipt) -> list[dict[str, Any]]:
        """What this contract logged, in order, as `{"event", "args"}`."""
        logs = [log for log in receipt.logs if log["address"].lower() == self.address.lower()]
        events = [self.interface.decode_event(log) for log in logs]
        assert None not in events
        return [event for event in events if event]


class World:
    """The contracts, deployed by `governor`; `user`, `other` and `third` are nobody in particular."""

    def __init__(self, chain: Chain, pool: int = 8, vote: bool = True) -> None:
        self.chain = chain
        self.governor, *nodes = accounts()[: NODE_COUNT + 1]
        self.nodes = nodes
        self.user, self.other, self.third = accounts()[5:8]
        sender = ChainSender(chain, self.governor)
        entries = [node_entry(i + 1) for i in range(NODE_COUNT)]
        self.deployment: Deployment = asyncio.run(deploy(sender, entries))  # type: ignore[arg-type]
        self.staking, self.router, self.nft, self.sessions, self.permissions, self.helper = (
            Bound(chain, address, interface(name)) for name, address in self.deployment.contracts.items()
        )
        self.next_secret = 1000
        for node in self.nodes if vote else ():
            self.router.send("registerNetworkKey", public_key(NETWORK_SECRET), account=node)
        if pool:
            self.fill(pool)

    def sign_batch(self, keys: Sequence[bytes], batch: int, secret: int = NETWORK_SECRET, epoch: int = 1) -> bytes:
        digest = key_batch_digest(self.chain.chain_id, self.router.address, epoch, batch, keys)
        return sign_digest(secret, digest)

    def register(self, keys: Sequence[bytes]) -> Receipt:
        batch = self.router.read("nextBatch")
        return self.router.send("registerKeys", keys, batch, self.sign_batch(keys, batch), account=self.third)

    def fresh_keys(self, count: int) -> list[bytes]:
        secrets = range(self.next_secret, self.next_secret + count)
        self.next_secret += count
        return [public_key(secret) for secret in secrets]

    def fill(self, count: int) -> list[int]:
        """Put `count` fresh keys into the pool; return their token ids."""
        keys = self.fresh_keys(count)
        self.register(keys)
        return [token_id(key) for key in keys]

    def mint(self, account: LocalAccount | None = None) -> int:
        return self.minted(self.nft.send("mintNext", 2, account=account or self.user))

    def minted(self, receipt: Receipt) -> int:
        """The token id as existing clients find it: topic 1 of the receipt's first event."""
        return int(receipt.logs[0]["topics"][1], 16)

    def permit(
        self,
        token: int,
        kind: int,
        identity: bytes,
        scopes: Sequence[int] = (),
        pubkey: bytes = b"",
        account: LocalAccount | None = None,
    ) -> Receipt:
        arguments = (token, (kind, identity, pubkey), list(scopes))
        return self.permissions.send("addPermittedAuthMethod", *arguments, account=account or self.user)

    def authorisation(self, token: int, kind: int, identity: bytes) -> Any:
        return self.permissions.read("authorisation", token, kind, identity)

    def event_names(self, receipt: Receipt) -> list[str]:
        """The receipt's events in order, whichever contract wrote them."""
        contracts = (self.staking, self.router, self.nft, self.sessions, self.permissions, self.helper)
        decoders = {contract.address.lower(): contract.interface for contract in contracts}
        events = [decoders[log["address"].lower()].decode_event(log) for log in receipt.logs]
        return [event["event"] for event in events if event]

    def puppet(self) -> Bound:
        return self.artifact("Puppet")

    def artifact(self, name: str) -> Bound:
        """A newly deployed contract of `contracts/test`, whose constructor takes nothing."""
        return Bound(self.chain, self.chain.deploy(helper_init_code(name)), self.abi(name))

    def abi(self, name: str) -> Interface:
        return Interface(helper_artifact(name)["abi"])


def helper_artifact(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "artifacts" / f"{name}.json").read_text())
    return found


def helper_init_code(name: str, *arguments: Any) -> bytes:
    artifact = helper_artifact(name)
    return Interface(artifact["abi"]).encode_deployment(artifact["bytecode"], *arguments)


def sign_digest(secret: int, digest: bytes) -> bytes:
    """r, s, v with the low s, as `ecrecover` takes it."""
    signature = PrivateKey(secret.to_bytes(32, "big")).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([27 + signature[64]])


def address_id(account: LocalAccount | str) -> bytes:
    return bytes.fromhex((account if isinstance(account, str) else account.address)[2:])
