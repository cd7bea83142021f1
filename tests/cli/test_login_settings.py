"""How people log in at a network on this machine: `login.toml`, options of `up`, and the gateway's port."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path

import pytest

from keyquorum.cli.login_settings import LoginOptions, LoginSettings
from keyquorum.cli.ports import HeldPorts, Ports
from keyquorum.client import Misconfigured
from keyquorum.gateway import config as gateway_config
from keyquorum.node.settings import config as node_config

ROUTER = "0x" + "11" * 20


def node_settings(settings: LoginSettings) -> node_config.NodeConfig:
    """What a node reads from the file that is written for it."""
    text = node_config.dump_default(rpc=["http://127.0.0.1:1"], router=ROUTER, **settings.for_nodes(7480))
    return node_config.parse(tomllib.loads(text), Path("node.toml"))


def test_a_page_and_a_google_application_are_two_options() -> None:
    given = LoginSettings.read(Path("nowhere"), {})
    settings = given.with_options(LoginOptions(("http://localhost:3000", "https://wallet.example"), "1.apps"))
    auth = node_settings(settings).auth
    assert set(auth.domains) >= {"localhost:3000", "wallet.example", "localhost:7480"}
    assert set(auth.methods["passkey"].origins) == {  # type: ignore[attr-defined]
        "http://localhost:3000", "https://wallet.example", "http://localhost:7480",
    }  # fmt: skip
    assert set(auth.methods["passkey"].rp_ids) == {"localhost", "wallet.example"}  # type: ignore[attr-defined]
    (issuer,) = auth.methods["oidc"].issuers  # type: ignore[attr-defined]
    assert (issuer.name, issuer.client_ids) == ("google", ["1.apps"])
    offered = settings.for_gateway(7480)
    assert [(one.name, one.client_id) for one in offered.oidc] == [("google", "1.apps")]
    assert set(offered.methods) >= {"passkey", "oidc", "siwe"}
    assert set(offered.domains) == set(auth.domains)
    text = gateway_config.dump(gateway_config.GatewayConfig(f"eip155:1:{ROUTER}", "http://127.0.0.1:1", login=offered))
    assert "1.apps" in text
    assert settings.web_origins == ["http://localhost:3000", "https://wallet.example"]


def test_options_add_to_the_file_and_the_gateways_page_stays(tmp_path: Path) -> None:
    (tmp_path / "login.toml").write_text(
        '[auth.passkey]\nrp_ids = ["a.example"]\norigins = ["https://a.example"]\n'
        '[[auth.oidc.issuers]]\nname = "other"\nissuer = "https://id.example"\nclient_ids = ["x"]\n'
    )
    settings = LoginSettings.read(tmp_path).with_options(LoginOptions(("http://localhost:3000",), "1.apps"))
    auth = node_settings(settings).auth
    assert list(auth.methods["passkey"].origins) == [  # type: ignore[attr-defined]
        "https://a.example", "http://localhost:3000", "http://localhost:7480",
    ]  # fmt: skip
    assert [issuer.name for issuer in auth.methods["oidc"].issuers] == ["other", "google"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "origin", ["localhost:3000", "http://localhost:3000/", "http://wallet.example", "*", "", "null"]
)
def test_what_no_browser_sends_is_no_origin(origin: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        LoginSettings.read(Path("nowhere"), {}).with_options(LoginOptions((origin,)))
    assert caught.value.code == "bad_origin"


def test_a_port_that_was_asked_for_is_had_or_refused(tmp_path: Path) -> None:
    held = HeldPorts(tmp_path)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = int(squatter.getsockname()[1])
        with pytest.raises(Misconfigured) as caught:
            Ports.choose(2, {"gateway": 20_001}, held, taken)
        assert caught.value.code == "port_taken"
        assert str(taken) in caught.value.message
        assert Ports.choose(2, {"gateway": taken}, held).gateway != taken, "a port it only had before is replaced"
    wanted = Ports.choose(2, {}, held).gateway
    held.close()
    ports = Ports.choose(2, {"chain": wanted, "gateway": 20_001, "api": [wanted, 0], "mesh": [0, 0]}, held, wanted)
    assert ports.gateway == wanted
    assert wanted not in (ports.chain, *ports.api, *ports.mesh)
    held.close()
