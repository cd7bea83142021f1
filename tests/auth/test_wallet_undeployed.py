"""Contract wallets that are not deployed yet log in (EIP-6492), on the embedded chain and on anvil; nobody else does.

The wallet and its factory are contracts of the tests: the wallet's address follows from its first owner.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi import decode, encode
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_hash.auto import keccak

from chain_fixtures import anvil_chain, any_chain, dev_chain, js_tools  # noqa: F401 - fixtures
from keyquorum.auth import siwe, wallet_key
from keyquorum.auth.method import Context, prove
from keyquorum.auth.probe_code import PROBE_CODE
from keyquorum.auth.wallet_login import MAX_CONTRACT_SESSION
from keyquorum.auth.wallet_signature import WRAPPED, Wrapped, check
from keyquorum.chain.devchain.accounts import ACCOUNTS
from keyquorum.chain.rpc import Reverted, Rpc, RpcError, Sender, from_hex
from keyquorum.evm.address import from_checksum, to_checksum
from keyquorum.refusal import Invalid

ARTIFACTS = Path(__file__).parent.parent / "contracts" / "artifacts"
OWNER = Account.from_key(b"\x51" * 32)
HEIR = Account.from_key(b"\x52" * 32)
SALT = bytes(31) + b"\x07"
MAGIC = bytes.fromhex("1626ba7e") + bytes(28)
YES, NO = MAGIC, bytes(32)


def selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


def deploy_call(owner: str = OWNER.address, salt: bytes = SALT) -> bytes:
    return selector("deploy(address,bytes32)") + encode(["address", "bytes32"], [owner, salt])


@dataclass
class WalletChain:
    """A chain with the factory; what a node would ask it at either of its two blocks."""

    rpc: Rpc
    sender: Sender
    factory: str
    wallet: str
    final: int | str = "latest"

    def at(self, at: str) -> int | str:
        return self.final if at == "finalized" else "latest"

    async def call(self, address: str, data: bytes, at: str) -> bytes:
        try:
            return await self.rpc.eth_call(address, data, self.at(at))
        except (Reverted, RpcError):
            return b""

    async def code(self, address: str, at: str) -> bytes:
        block = self.at(at)
        return from_hex(await self.rpc.call("eth_getCode", address, hex(block) if isinstance(block, int) else block))

    async def probe(self, init_code: bytes, at: str) -> bytes:
        try:
            return await self.rpc.probe(init_code, self.at(at))
        except (Reverted, RpcError):
            return b""

    async def deploy(self) -> None:
        await self.sender.send(self.factory, deploy_call())

    async def change_owner(self) -> None:
        await self.sender.send(OWNER.address, value=10**18)
        call = selector("setOwner(address)") + encode(["address"], [HEIR.address])
        await Sender(self.rpc, OWNER.key).send(self.wallet, call)

    def context(self, now: int) -> Context:
        return Context(now=now, call=self.call, code=self.code, probe=self.probe)


@pytest.fixture
async def wallets(any_chain: str) -> AsyncIterator[WalletChain]:  # noqa: F811
    async with Rpc(any_chain) as rpc:
        sender = Sender(rpc, ACCOUNTS[0][1])
        artifact = json.loads((ARTIFACTS / "TestWalletFactory.json").read_text())
        receipt = await sender.send(None, bytes.fromhex(artifact["bytecode"].removeprefix("0x")))
        factory = to_checksum(bytes.fromhex(receipt["contractAddress"][2:]))
        query = selector("addressOf(address,bytes32)") + encode(["address", "bytes32"], [OWNER.address, SALT])
        wallet = to_checksum((await rpc.eth_call(factory, query))[12:])
        yield WalletChain(rpc, sender, factory, wallet)


def wrap(factory: str, calldata: bytes, inner: bytes) -> bytes:
    return encode(["address", "bytes", "bytes"], [factory, calldata, inner]) + WRAPPED


def siwe_proof(world: Any, chain: WalletChain, calldata: bytes | None = None, owner: Any = OWNER) -> dict[str, str]:
    """What the wallet's program sends: the owner's signature, wrapped with the call that deploys the wallet."""
    message = siwe.build_message(world.statement, from_checksum(chain.wallet), "localhost", world.now)
    inner = bytes(owner.sign_message(encode_defunct(text=message)).signature)
    wrapped = wrap(chain.factory, deploy_call() if calldata is None else calldata, inner)
    return {"message": message, "signature": "0x" + wrapped.hex()}


async def test_a_wallet_logs_in_before_during_and_after_its_deployment(world: Any, wallets: WalletChain) -> None:
    proof, context = siwe_proof(world, wallets), wallets.context(world.now)
    wallets.final = await wallets.rpc.block_number()
    proven = await prove("siwe", proof, world.statement, context)
    assert (proven.type, proven.id) == (1, from_checksum(wallets.wallet))
    assert await wallets.code(wallets.wallet, "latest") == b"", "nothing stays of a probe"
    await wallets.deploy()
    assert await wallets.code(wallets.wallet, "latest") and not await wallets.code(wallets.wallet, "finalized")
    assert await prove("siwe", proof, world.statement, context) == proven
    wallets.final = "latest"
    assert await prove("siwe", proof, world.statement, context) == proven


async def test_a_statement_is_signed_by_such_a_wallet_in_both_forms(world: Any, wallets: WalletChain) -> None:
    address = from_checksum(wallets.wallet)
    for form in wallet_key.FORMS:
        digest = wallet_key.digest_of(form, world.statement, address, world.now)
        inner = bytes(OWNER.unsafe_sign_hash(digest).signature)
        wrapped = wrap(wallets.factory, deploy_call(), inner)
        proof = {"form": form, "address": wallets.wallet, "issued_at": world.now, "signature": "0x" + wrapped.hex()}
        assert (await prove("wallet-key", proof, world.statement, wallets.context(world.now))).id == address


async def test_a_removed_owner_does_not_come_back_through_the_factory(
    world: Any, wallets: WalletChain, refused: Callable[..., Any]
) -> None:
    await wallets.deploy()
    proof, context = siwe_proof(world, wallets), wallets.context(world.now)
    assert await prove("siwe", proof, world.statement, context)
    wallets.final = await wallets.rpc.block_number()
    await wallets.change_owner()
    with refused("wallet_refused"):
        await prove("siwe", proof, world.statement, context)
    heirs = siwe_proof(world, wallets, owner=HEIR)
    with refused("wallet_refused"):
        await prove("siwe", heirs, world.statement, context)
    wallets.final = "latest"
    assert await prove("siwe", heirs, world.statement, context)


async def test_nobody_else_deploys_himself_into_the_wallets_place(
    world: Any, wallets: WalletChain, refused: Callable[..., Any]
) -> None:
    attempts = {
        "another person's signature": siwe_proof(world, wallets, owner=HEIR),
        "a wallet of another owner": siwe_proof(world, wallets, deploy_call(HEIR.address), HEIR),
        "another salt": siwe_proof(world, wallets, deploy_call(salt=bytes(32))),
        "no call": siwe_proof(world, wallets, b""),
        "a call that reverts": siwe_proof(world, wallets, b"\xde\xad\xbe\xef"),
    }
    stranger = replace(wallets, factory=ACCOUNTS[5][0])
    attempts["an account as the factory"] = siwe_proof(world, stranger)
    for name, proof in attempts.items():
        with refused("wallet_refused", 401):
            await prove("siwe", proof, world.statement, wallets.context(world.now))
            pytest.fail(name)


async def test_an_ordinary_accounts_signature_is_not_valid_because_it_is_wrapped(
    world: Any, wallets: WalletChain, refused: Callable[..., Any]
) -> None:
    message = siwe.build_message(world.statement, from_checksum(OWNER.address), "localhost", world.now)
    inner = bytes(OWNER.sign_message(encode_defunct(text=message)).signature)
    for calldata in (deploy_call(), b""):
        proof = {"message": message, "signature": "0x" + wrap(wallets.factory, calldata, inner).hex()}
        with refused("wallet_refused"):
            await prove("siwe", proof, world.statement, wallets.context(world.now))


# ---- without a chain ----------------------------------------------------------------------------------------------


class Answers:
    """Scripted answers of a chain, and what it was asked: (question, block)."""

    def __init__(self, deployed: str = "", call: bytes = YES, probe: bytes = YES) -> None:
        self.deployed, self.said, self.probed = deployed, call, probe
        self.asked: list[tuple[str, str]] = []
        self.data: list[bytes] = []

    async def code(self, address: str, at: str) -> bytes:
        return b"\x60" if at in self.deployed else b""

    async def call(self, address: str, data: bytes, at: str) -> bytes:
        self.asked.append(("call", at))
        self.data.append(data)
        return self.said

    async def probe(self, init_code: bytes, at: str) -> bytes:
        self.asked.append(("probe", at))
        self.data.append(init_code)
        return self.probed

    def context(self) -> Context:
        return Context(now=0, call=self.call, code=self.code, probe=self.probe)


@pytest.mark.parametrize(
    ("deployed", "asked"),
    [
        ("", [("probe", "finalized"), ("probe", "latest")]),
        ("latest", [("probe", "finalized"), ("call", "latest")]),
        ("finalized", [("call", "finalized"), ("probe", "latest")]),
        ("finalized latest", [("call", "finalized"), ("call", "latest")]),
    ],
)
async def test_each_block_is_asked_for_itself(deployed: str, asked: list[tuple[str, str]]) -> None:
    chain = Answers(deployed)
    assert await check(bytes(20), bytes(32), wrap(ACCOUNTS[1][0], b"call", b"inner"), chain.context())
    assert chain.asked == asked


@pytest.mark.parametrize("answer", [b"", NO, MAGIC[:4], MAGIC[:31], MAGIC + bytes(32), b"\x01", (1).to_bytes(32)])
@pytest.mark.parametrize(
    ("deployed", "kind", "asked"),
    [
        ("", "probe", [("probe", "finalized")]),
        ("latest", "call", [("probe", "finalized"), ("call", "latest")]),
        ("latest", "probe", [("probe", "finalized")]),
        ("finalized", "probe", [("call", "finalized"), ("probe", "latest")]),
        ("finalized latest", "call", [("call", "finalized")]),
    ],
)
async def test_only_the_exact_answer_counts_and_a_no_is_final(
    deployed: str, kind: str, asked: list[tuple[str, str]], answer: bytes, refused: Callable[..., Any]
) -> None:
    chain = Answers(deployed, **{kind: answer})
    with refused("wallet_refused", 401):
        await check(bytes(20), bytes(32), wrap(ACCOUNTS[1][0], b"call", b"inner"), chain.context())
    assert chain.asked == asked


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 500])
async def test_probe_and_wallet_are_asked_in_the_standards_encoding(size: int) -> None:
    digest, factory, calldata, inner = b"\x11" * 32, ACCOUNTS[1][0], bytes(range(256))[:size], b"\x22" * (size + 1)
    address = bytes(range(20))
    undeployed, deployed = Answers(), Answers("finalized latest")
    for chain in (undeployed, deployed):
        assert await check(address, digest, wrap(factory, calldata, inner), chain.context())
    init_code = undeployed.data[0]
    assert init_code.startswith(PROBE_CODE)
    arguments = ["address", "bytes32", "address", "bytes", "bytes"]
    values = [to_checksum(address), digest, factory, calldata, inner]
    assert init_code[len(PROBE_CODE) :] == encode(arguments, values)
    assert decode(["bytes32", "bytes"], deployed.data[0][4:]) == (digest, inner)


def test_a_wrapped_signature_is_what_the_standard_abi_says() -> None:
    for size in (0, 1, 32, 33, 4000):
        wrapped = wrap(ACCOUNTS[1][0], bytes(size), b"\x01" * size)
        found = Wrapped.read(wrapped)
        assert (to_checksum(found.factory), len(found.calldata), len(found.signature)) == (ACCOUNTS[1][0], size, size)
        assert found.encode() == wrapped


def test_every_other_encoding_is_refused(refused: Callable[..., Any]) -> None:
    good = wrap(ACCOUNTS[1][0], b"call", b"inner")
    body = good[:-32]
    longer = encode(["address", "bytes", "bytes", "bytes"], [ACCOUNTS[1][0], b"call", b"inner", b""])
    forms = {
        "nothing": b"",
        "only magic": WRAPPED,
        "a word more": body + bytes(32),
        "a byte more": body + b"\0",
        "a byte less": body[:-1],
        "a word less": body[:-32],
        "four values": longer,
        "dirty address": b"\1" + body[1:],
        "dirty padding": body[:-1] + b"\1",
        "a huge length": body[: 3 * 32] + b"\xff" * 32 + body[4 * 32 :],
        "the same bytes twice": body[:64] + body[32:64] + body[96:],
        "an offset beyond": body[:32] + (2**40).to_bytes(32) + body[64:],
        "swapped": encode(["bytes", "address", "bytes"], [b"call", ACCOUNTS[1][0], b"inner"]),
        **{f"{cut} bytes": body[:cut] for cut in (1, 31, 32, 64, 95, 96, 127, 128, 160)},
    }
    for name, form in forms.items():
        with refused("bad_wallet_signature", 401):
            Wrapped.read(form + WRAPPED)
            pytest.fail(name)
    assert Wrapped.read(good)


async def test_one_bit_anywhere_makes_another_signature_or_none() -> None:
    good = wrap(ACCOUNTS[1][0], b"call", b"inner")
    for index in range(len(good) - 32):
        changed = bytes(value ^ (place == index) for place, value in enumerate(good))
        try:
            assert Wrapped.read(changed) != Wrapped.read(good)
        except Invalid:
            continue


async def test_such_a_session_lasts_an_hour_at_most(world: Any, refused: Callable[..., Any]) -> None:
    for seconds, allowed in ((MAX_CONTRACT_SESSION, True), (MAX_CONTRACT_SESSION + 1, False)):
        statement = replace(world.statement, expires=world.now + seconds)
        message = siwe.build_message(statement, bytes(20), "localhost", world.now)
        proof = {"message": message, "signature": "0x" + wrap(ACCOUNTS[1][0], b"call", b"inner").hex()}
        context = replace(Answers().context(), now=world.now)
        if allowed:
            assert await prove("siwe", proof, statement, context)
            continue
        with refused("session_too_long"):
            await prove("siwe", proof, statement, context)


async def test_a_node_without_a_chain_knows_no_such_wallet(refused: Callable[..., Any]) -> None:
    with refused("wallet_refused"):
        await check(bytes(20), bytes(32), wrap(ACCOUNTS[1][0], b"call", b"inner"), Context(now=0))
