"""Revocations: signed by the network key or made by the owner, never taken back, and found by everybody."""

from __future__ import annotations

import pytest
from world import GOOGLE, NETWORK_SECRET, World, sign_digest

from keyquorum.evm.digests import identity_mark, key_mark, revocation_digest, session_mark

NEVER = 2**64 - 1
JTI = bytes(range(32))


def signed(world: World, what: bytes, before: int, secret: int = NETWORK_SECRET) -> bytes:
    return sign_digest(secret, revocation_digest(world.chain.chain_id, world.sessions.address, what, before))


def revoke(world: World, what: bytes, before: int, secret: int = NETWORK_SECRET):
    return world.sessions.send("revoke", what, before, signed(world, what, before, secret), account=world.third)


def before(world: World, *whats: bytes) -> list[int]:
    return list(world.sessions.read("revokedBefore", whats))


def test_the_network_revokes_a_session_and_anybody_delivers_it(world):
    mark = session_mark(JTI)
    assert before(world, mark) == [0]
    (event,) = world.sessions.events(revoke(world, mark, NEVER))
    assert event == {"event": "Revoked", "args": {"what": mark, "before": NEVER}}
    assert before(world, mark) == [NEVER]


def test_an_identity_is_revoked_up_to_a_time_which_only_grows(world):
    mark = identity_mark(GOOGLE, b"\2" * 32)
    revoke(world, mark, 1000)
    revoke(world, mark, 2000)
    assert before(world, mark) == [2000]
    for replay in (2000, 1000, 0):
        assert world.sessions.events(revoke(world, mark, replay)) == []
        assert before(world, mark) == [2000]


def test_many_marks_are_read_in_one_call_in_order(world):
    marks = [session_mark(JTI), identity_mark(GOOGLE, b"x"), key_mark(5)]
    revoke(world, marks[2], 7)
    revoke(world, marks[0], 9)
    assert before(world, *marks) == [9, 0, 7]
    assert before(world) == []


def test_marks_and_digest_on_chain_are_those_of_the_nodes(world):
    read = world.sessions.read
    assert read("sessionMark", JTI) == session_mark(JTI)
    assert read("identityMark", GOOGLE, b"some id") == identity_mark(GOOGLE, b"some id")
    assert read("keyMark", 2**255) == key_mark(2**255)
    assert len({session_mark(bytes(32)), identity_mark(0, b""), key_mark(0)}) == 3
    what = key_mark(1)
    digest = revocation_digest(world.chain.chain_id, world.sessions.address, what, NEVER)
    assert read("revocationDigest", what, NEVER) == digest
    for wrong in (b"", b"x" * 31, b"x" * 33):
        with pytest.raises(ValueError, match="32 bytes"):
            session_mark(wrong)


def test_a_signature_by_anybody_else_revokes_nothing(world, reverts):
    mark = session_mark(JTI)
    with reverts("NotSignedByNetworkKey"):
        revoke(world, mark, NEVER, secret=1000)
    assert before(world, mark) == [0]


@pytest.mark.parametrize("change", ["what", "before", "chain", "contract", "bare"])
def test_a_signature_for_something_else_revokes_nothing(world, reverts, change):
    mark, chain_id, contract = session_mark(JTI), world.chain.chain_id, world.sessions.address
    digest = {
        "what": revocation_digest(chain_id, contract, session_mark(bytes(32)), NEVER),
        "before": revocation_digest(chain_id, contract, mark, NEVER - 1),
        "chain": revocation_digest(chain_id + 1, contract, mark, NEVER),
        "contract": revocation_digest(chain_id, world.router.address, mark, NEVER),
        "bare": mark,
    }[change]
    with reverts("NotSignedByNetworkKey"):
        world.sessions.send("revoke", mark, NEVER, sign_digest(NETWORK_SECRET, digest), account=world.third)


def test_a_signature_of_the_wrong_form_is_refused(world, reverts):
    from keyquorum.algebra.field import Q

    mark = session_mark(JTI)
    good = signed(world, mark, NEVER)
    s = Q - int.from_bytes(good[32:64], "big")
    with reverts("ECDSAInvalidSignatureS"):
        twin = good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]])
        world.sessions.send("revoke", mark, NEVER, twin, account=world.third)
    for short in (b"", good[:64], good + b"\0"):
        with reverts("ECDSAInvalidSignatureLength", len(short)):
            world.sessions.send("revoke", mark, NEVER, short, account=world.third)
    with reverts("ECDSAInvalidSignature"):
        world.sessions.send("revoke", mark, NEVER, bytes(65), account=world.third)


def test_nothing_is_revoked_before_there_is_a_network_key(chain, reverts):
    snapshot = chain.snapshot()
    try:
        world = World(chain, pool=0, vote=False)
        with reverts("NetworkKeyMissing"):
            revoke(world, session_mark(JTI), NEVER)
    finally:
        chain.restore(snapshot)


def test_the_owner_ends_all_sessions_of_his_key_up_to_now(world, reverts):
    token = world.mint()
    for stranger in (world.other, world.governor, world.nodes[0]):
        with reverts("OnlyOwnerOf", token):
            world.sessions.send("revokeSessionsOf", token, account=stranger)
    receipt = world.sessions.send("revokeSessionsOf", token, account=world.user)
    now = world.chain.time()
    assert world.sessions.events(receipt) == [{"event": "Revoked", "args": {"what": key_mark(token), "before": now}}]
    assert before(world, key_mark(token)) == [now]
    world.chain.advance(100)
    world.sessions.send("revokeSessionsOf", token, account=world.user)
    assert before(world, key_mark(token))[0] >= now + 100


def test_an_owner_does_not_shorten_what_the_network_has_revoked(world):
    token = world.mint()
    revoke(world, key_mark(token), NEVER)
    receipt = world.sessions.send("revokeSessionsOf", token, account=world.user)
    assert world.sessions.events(receipt) == []
    assert before(world, key_mark(token)) == [NEVER]


def test_nobody_ends_the_sessions_of_a_key_that_is_not_minted_or_burned(world, reverts):
    token = world.mint()
    world.nft.send("burn", token, account=world.user)
    for absent in (token, 0, 2**256 - 1):
        with reverts("OnlyOwnerOf", absent):
            world.sessions.send("revokeSessionsOf", absent, account=world.user)
