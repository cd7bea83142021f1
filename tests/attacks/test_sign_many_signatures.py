"""T17: many signatures, all judged by OpenSSL and by libsecp256k1's recovery; I3: no nonce ever repeats."""

from __future__ import annotations

import pytest
from coincurve import PublicKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from dealer import deal_inventories, deal_key, signing_sessions
from keyquorum.algebra.ecdsa import HALF_Q
from keyquorum.algebra.field import Q
from keyquorum.algebra.rng import SeededRng
from keyquorum.protocols.sign import combine
from keyquorum.rounds.simulate import simulate


def sign_many(runs: int, batch: int, signers: tuple[int, ...], n: int) -> None:
    keys = deal_key(n, len(signers), "many")
    X = keys[signers[0]].public_key
    openssl = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), X.to_bytes())
    pools = deal_inventories(signers, runs * batch)
    rng = SeededRng("digests")
    nonces, parities = set(), set()
    for k in range(runs):
        digests = [rng.bytes(32) for _ in range(batch - 1)] + [(1 << k % 256).to_bytes(32, "big")]
        outcome = simulate(signing_sessions(keys, pools, signers, digests, k, k.to_bytes(32, "big")), k)
        for row, digest in enumerate(digests):
            shares = {j: result.rows[row] for j, result in outcome.results.items()}
            signature = combine(shares, outcome.results[signers[0]].R[row], digest, X)
            assert 1 <= signature.r < Q
            assert 1 <= signature.s <= HALF_Q
            der = encode_dss_signature(signature.r, signature.s)
            openssl.verify(der, digest, ec.ECDSA(Prehashed(hashes.SHA256())))
            recovered = PublicKey.from_signature_and_message(signature.to_bytes(), digest, hasher=None)
            assert recovered.format(compressed=False) == X.to_bytes()
            nonces.add(signature.r)
            parities.add(signature.v)
    assert len(nonces) == runs * batch
    assert parities == {0, 1}


def test_many_signatures_all_verify_and_no_nonce_repeats() -> None:
    sign_many(40, 8, (1, 3), 3)


@pytest.mark.soak
@pytest.mark.timeout(14400)
def test_a_hundred_thousand_signatures_all_verify() -> None:
    sign_many(1600, 64, (1, 3), 3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("n", "t"), [(30, 20), (100, 67)])
def test_large_sets_sign(n: int, t: int) -> None:
    sign_many(2, 2, tuple(range(1, t + 1)), n)
