"""The network key and the pool: which keys the chain accepts, from whom, and in what order they leave."""

from __future__ import annotations

import asyncio

import pytest
from chains import accounts
from coincurve import PrivateKey
from world import NETWORK_SECRET, ChainSender, World, node_entry, public_key, sign_digest

from keyquorum.algebra.field import Q
from keyquorum.chain.contracts import interface
from keyquorum.chain.deploy import deploy
from keyquorum.evm.address import checksum
from keyquorum.evm.digests import key_batch_digest
from keyquorum.evm.keys import eth_address, token_id

P = 2**256 - 2**32 - 977
ZERO_ADDRESS = "0x" + "00" * 20


@pytest.fixture
def unborn(world: World) -> World:
    """A second set of contracts: active, but without a network key."""
    return World(world.chain, pool=0, vote=False)


def bad_points() -> dict[str, bytes]:
    good = public_key(5)
    x, y = int.from_bytes(good[1:33], "big"), int.from_bytes(good[33:], "big")
    # The only small x whose x + p still fits in 32 bytes and is on the curve makes a second encoding of one point.
    small = next(x for x in range(1, 100) if pow(x**3 + 7, (P - 1) // 2, P) == 1)
    root = pow(small**3 + 7, (P + 1) // 4, P)
    word = lambda value: value.to_bytes(32, "big")  # noqa: E731
    return {
        "empty": b"",
        "compressed": PrivateKey(word(5)).public_key.format(),
        "without prefix": good[1:],
        "66 bytes": good + b"\0",
        "64 bytes": good[:-1],
        "hybrid prefix": bytes([6 + (y & 1)]) + good[1:],
        "infinity": b"\4" + bytes(64),
        "off the curve": good[:-1] + bytes([good[-1] ^ 1]),
        "x and y swapped": b"\4" + word(y) + word(x),
        "x not reduced": b"\4" + word(small + P) + word(root),
        "x of all ones": b"\4" + b"\xff" * 32 + good[33:],
        "y = p": b"\4" + good[1:33] + word(P),
    }


# ------------------------------------------------------------------------------------------------------- network key


def test_the_network_key_needs_every_node(unborn):
    key = public_key(77)
    for node in unborn.nodes[:-1]:
        receipt = unborn.router.send("registerNetworkKey", key, account=node)
        assert [event["event"] for event in unborn.router.events(receipt)] == ["NetworkKeyVote"]
        assert unborn.router.read("networkAddress") == ZERO_ADDRESS
        assert unborn.router.read("networkKey") == b""
    receipt = unborn.router.send("registerNetworkKey", key, account=unborn.nodes[-1])
    assert unborn.router.read("networkKey") == key
    assert checksum(unborn.router.read("networkAddress")) == eth_address(key)
    event = unborn.router.events(receipt)[1]
    assert event["event"] == "RootKeySet"
    assert event["args"]["stakingContract"] == unborn.staking.address.lower()
    assert event["args"]["rootKey"] == (key, 2)


def test_all_but_one_node_cannot_put_their_own_network_key_on_chain(unborn):
    for node in unborn.nodes[:-1]:
        unborn.router.send("registerNetworkKey", public_key(666), account=node)
    unborn.router.send("registerNetworkKey", public_key(77), account=unborn.nodes[-1])
    assert unborn.router.read("networkKey") == b""


def test_a_node_has_one_vote_however_often_it_votes(unborn):
    unborn.router.send("registerNetworkKey", public_key(77), account=unborn.nodes[0])
    for _ in range(5):
        repeated = unborn.router.send("registerNetworkKey", public_key(77), account=unborn.nodes[0])
        assert repeated.logs == []
    assert unborn.router.read("networkKey") == b""
    assert unborn.router.read("networkKeyVote", unborn.nodes[0].address) == token_id(public_key(77))
    assert unborn.router.read("networkKeyVote", unborn.nodes[1].address) == 0


def test_a_changed_vote_counts_only_for_the_new_key(unborn):
    first, second = public_key(77), public_key(78)
    unborn.router.send("registerNetworkKey", first, account=unborn.nodes[0])
    unborn.router.send("registerNetworkKey", second, account=unborn.nodes[0])
    for node in unborn.nodes[1:]:
        unborn.router.send("registerNetworkKey", first, account=node)
    assert unborn.router.read("networkKey") == b""
    unborn.router.send("registerNetworkKey", first, account=unborn.nodes[0])
    assert unborn.router.read("networkKey") == first


def test_the_network_key_is_fixed_for_ever(world, reverts):
    for key in (public_key(78), public_key(NETWORK_SECRET)):
        with reverts("NetworkKeyIsFixed"):
            world.router.send("registerNetworkKey", key, account=world.nodes[0])


def test_only_nodes_vote_for_the_network_key(unborn, reverts):
    for stranger in (unborn.user, unborn.governor):
        with reverts("NotAnActiveNode", stranger.address.lower()):
            unborn.router.send("registerNetworkKey", public_key(77), account=stranger)


def test_nobody_votes_before_the_epoch_starts(world, reverts):
    deployment = asyncio.run(deploy(ChainSender(world.chain, world.governor)))
    entry = node_entry(1)
    fields = (entry.address, entry.url, entry.mesh_host, entry.mesh_port, entry.tls_key)
    world.chain.send(deployment.contracts["Staking"], interface("Staking").encode("register", *fields))
    with reverts("NotAnActiveNode"):
        data = interface("PubkeyRouter").encode("registerNetworkKey", public_key(77))
        world.chain.send(deployment.contracts["PubkeyRouter"], data, accounts()[1])


@pytest.mark.parametrize("name", bad_points())
def test_a_network_key_that_is_no_point_is_refused(unborn, reverts, name):
    with reverts("BadPubkey"):
        unborn.router.send("registerNetworkKey", bad_points()[name], account=unborn.nodes[0])


# -------------------------------------------------------------------------------------------------------------- pool


def test_a_batch_signed_by_the_network_key_enters_the_pool_in_order(world):
    keys = world.fresh_keys(3)
    assert (world.router.read("nextBatch"), world.router.read("poolSize")) == (2, 8)
    receipt = world.register(keys)
    assert world.router.events(receipt) == [{"event": "KeysRegistered", "args": {"batch": 2, "count": 3}}]
    assert (world.router.read("nextBatch"), world.router.read("poolSize")) == (3, 11)
    minted = [world.mint() for _ in range(11)]
    assert minted[8:] == [token_id(key) for key in keys]


def test_a_registered_key_is_known_before_it_is_minted(world):
    (token,) = world.fill(1)
    key = public_key(world.next_secret - 1)
    assert world.router.read("isRegistered", token) is True
    assert world.router.read("isRouted", token) is False
    assert world.router.read("getPubkey", token) == key
    assert checksum(world.router.read("getEthAddress", token)) == eth_address(key)
    assert world.router.read("ethAddressToPkpId", eth_address(key)) == 0
    assert world.router.read("getRoutingData", token) == (b"", 0, bytes(32))


def test_a_minted_key_is_routed(world):
    token = world.mint()
    key = public_key(1000)
    assert token == token_id(key)
    assert world.router.read("isRouted", token) is True
    assert world.router.read("getRoutingData", token) == (key, 2, bytes(32))
    assert world.router.read("ethAddressToPkpId", eth_address(key)) == token
    assert checksum(world.router.read("deriveEthAddressFromPubkey", key)) == eth_address(key)


@pytest.mark.parametrize("token", [0, 1, 2**256 - 1])
def test_an_unknown_key_reads_as_nothing_without_an_error(world, token):
    assert world.router.read("isRegistered", token) is False
    assert world.router.read("isRouted", token) is False
    assert world.router.read("getPubkey", token) == b""
    assert world.router.read("getEthAddress", token) == ZERO_ADDRESS
    assert world.router.read("getRoutingData", token) == (b"", 0, bytes(32))


def test_anybody_may_deliver_a_batch(world):
    keys = world.fresh_keys(1)
    signature = world.sign_batch(keys, 2)
    world.router.send("registerKeys", keys, 2, signature, account=world.other)


def test_the_batch_digest_binds_type_chain_contract_epoch_number_and_keys(world):
    keys = world.fresh_keys(2)
    chain, router = world.chain.chain_id, world.router.address
    right = key_batch_digest(chain, router, 1, 2, keys)
    assert world.router.read("batchDigest", keys, 2) == right
    others = [
        key_batch_digest(chain + 1, router, 1, 2, keys),
        key_batch_digest(chain, world.nft.address, 1, 2, keys),
        key_batch_digest(chain, router, 2, 2, keys),
        key_batch_digest(chain, router, 1, 3, keys),
        key_batch_digest(chain, router, 1, 2, keys[::-1]),
        key_batch_digest(chain, router, 1, 2, keys[:1]),
    ]
    assert len({right, *others}) == 7


@pytest.mark.parametrize("wrong", ["chain", "contract", "epoch", "number", "keys", "signer"])
def test_a_signature_for_anything_else_is_refused(world, reverts, wrong):
    keys = world.fresh_keys(2)
    chain, router = world.chain.chain_id, world.router.address
    digest = key_batch_digest(
        chain + (wrong == "chain"),
        world.nft.address if wrong == "contract" else router,
        1 + (wrong == "epoch"),
        2 + (wrong == "number"),
        keys[::-1] if wrong == "keys" else keys,
    )
    secret = NETWORK_SECRET + (wrong == "signer")
    with reverts("NotSignedByNetworkKey"):
        world.router.send("registerKeys", keys, 2, sign_digest(secret, digest))
    assert world.router.read("poolSize") == 8


def test_a_batch_cannot_be_registered_twice_or_out_of_order(world, reverts):
    keys = world.fresh_keys(2)
    later = world.sign_batch(keys[1:], 3)
    with reverts("WrongBatch", 3, 2):
        world.router.send("registerKeys", keys[1:], 3, later)
    first = world.sign_batch(keys[:1], 2)
    world.router.send("registerKeys", keys[:1], 2, first)
    with reverts("WrongBatch", 2, 3):
        world.router.send("registerKeys", keys[:1], 2, first)
    world.router.send("registerKeys", keys[1:], 3, later)


def test_a_key_cannot_be_registered_twice(world, reverts):
    (key,) = world.fresh_keys(1)
    with reverts("DuplicateKey", token_id(key)):
        world.register([key, key])
    world.register([key])
    with reverts("DuplicateKey", token_id(key)):
        world.register([key])
    minted = public_key(1000)
    assert world.mint() == token_id(minted)
    with reverts("DuplicateKey", token_id(minted)):
        world.register([minted])


def test_the_network_key_itself_is_never_for_sale(world, reverts):
    for secret in (NETWORK_SECRET, Q - NETWORK_SECRET):
        with reverts("DuplicateKey"):
            world.register([public_key(secret)])


@pytest.mark.parametrize("name", bad_points())
def test_a_batch_with_anything_but_a_point_is_refused_whole(world, reverts, name):
    keys = [world.fresh_keys(1)[0], bad_points()[name]]
    signature = bytes(65)
    if len(keys[1]) == 65 and keys[1][0] == 4:
        signature = world.sign_batch(keys, 2)
    elif len(keys[1]) == 65:
        signature = sign_digest(NETWORK_SECRET, world.router.read("batchDigest", keys, 2))
    with reverts("BadPubkey"):
        world.router.send("registerKeys", keys, 2, signature)
    assert world.router.read("poolSize") == 8


def test_an_empty_batch_is_refused(world, reverts):
    with reverts("EmptyBatch"):
        world.register([])


def test_nothing_is_registered_without_a_network_key(unborn, reverts):
    keys = unborn.fresh_keys(1)
    # v = 29 makes ecrecover fail, that is, yield address 0: which is what an absent network key looks like.
    for signature in (bytes(64) + b"\x1d", unborn.sign_batch(keys, 1)):
        with reverts("NetworkKeyMissing"):
            unborn.router.send("registerKeys", keys, 1, signature)


def test_a_signature_is_65_bytes_with_low_s(world, reverts):
    keys = world.fresh_keys(1)
    good = world.sign_batch(keys, 2)
    r, s, v = good[:32], int.from_bytes(good[32:64], "big"), good[64]
    high = r + (Q - s).to_bytes(32, "big") + bytes([27 + 28 - v])
    with reverts("ECDSAInvalidSignatureS"):
        world.router.send("registerKeys", keys, 2, high)
    for length in (0, 64, 66):
        with reverts("ECDSAInvalidSignatureLength"):
            world.router.send("registerKeys", keys, 2, (good + b"\0")[:length])
    for wrong in (r + good[32:64] + bytes([v - 27]), bytes(64) + b"\x1b", good[:64] + b"\x1d"):
        with reverts("ECDSAInvalidSignature"):
            world.router.send("registerKeys", keys, 2, wrong)
    world.router.send("registerKeys", keys, 2, good)


def test_only_the_token_contract_takes_from_the_pool(world, reverts):
    for account in (world.user, world.governor, world.nodes[0]):
        with reverts("OnlyPKPNFT"):
            world.router.send("take", 0, account=account)


def test_an_empty_pool_says_so(world, reverts):
    for _ in range(8):
        world.mint()
    with reverts("PoolEmpty"):
        world.mint()
    (token,) = world.fill(1)
    assert world.mint() == token


def test_the_router_names_its_partners(world):
    assert checksum(world.router.read("staking")) == world.staking.address
    assert checksum(world.router.read("pkpNft")) == world.nft.address
