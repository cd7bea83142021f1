"""The node's settings: what is not understood is refused, by name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyquorum.algebra.rng import SeededRng
from keyquorum.auth.method import methods
from keyquorum.auth.session_key import SessionPrivateKey
from keyquorum.node.settings import auth_settings, config
from keyquorum.node.settings.config import NodeConfig, dump_default, load
from keyquorum.serving.settings import ConfigError

ROUTER = "0x" + "ab" * 20
TEXT = dump_default(rpc=["http://127.0.0.1:8545"], router=ROUTER)


def load_text(folder: Path, text: str) -> NodeConfig:
    path = folder / "node.toml"
    path.write_text(text)
    return load(path)


def test_the_default_file_loads_back_to_what_was_asked_for(tmp_path: Path) -> None:
    text = dump_default(
        rpc=["https://a.example/x?y=1", "http://[::1]:8545"], router=ROUTER, name='quo"ted\\', party=3, finality=12,
        api_host="0.0.0.0", api_port=1, api_url="https://node.example", mesh_host="::", mesh_port=2,
        passphrase_env="KEYQUORUM_PASSPHRASE",
    )  # fmt: skip
    found = load_text(tmp_path, text)
    assert (found.node.name, found.node.party, found.chain.finality) == ('quo"ted\\', 3, 12)
    assert found.chain.rpc == ["https://a.example/x?y=1", "http://[::1]:8545"]
    assert (found.api.host, found.api.port, found.api.url) == ("0.0.0.0", 1, "https://node.example")
    assert (found.mesh.host, found.mesh.port) == ("::", 2)
    assert found.keys.passphrase_env == "KEYQUORUM_PASSPHRASE"
    assert found.keys.key_file is None


def test_what_the_default_file_says_are_the_defaults_of_the_code(tmp_path: Path) -> None:
    found = load_text(tmp_path, TEXT)
    assert (found.pools, found.limits) == (config.PoolsSection(), config.LimitsSection())
    assert found.api.max_body == config.ApiSection().max_body
    assert (found.chain.finality, found.chain.poll_seconds) == ("finalized", 1.0)


def test_every_setting_stands_in_the_default_file_with_its_section() -> None:
    for section in msgspec.structs.fields(NodeConfig):
        body = TEXT.split(f"\n[{section.name}]", 1)[1].split("\n[", 1)[0]
        for setting in msgspec.structs.fields(section.type):
            if (section.name, setting.name) == ("auth", "methods"):
                continue  # the sections of the login methods, which docs/operators.md describes
            assert re.search(rf"^(# )?{setting.name} = ", body, re.M), f"{section.name}.{setting.name}"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = load_text(tmp_path, TEXT)
    assert found.node.data_dir == tmp_path / "data"
    assert found.keys.key_file == tmp_path / "store.key"
    absolute = load_text(tmp_path, TEXT.replace('"data"', '"/var/lib/keyquorum"'))
    assert absolute.node.data_dir == Path("/var/lib/keyquorum")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[limits]", "[limit]", "unknown key limit"),
        ("[chain]", "[chain]\nagree = 2", "more than there are endpoints"),
        ("[chain]", "[chain]\nagree = 0", "chain.agree"),
        ("[limits]", "[limits]\nrunz = 1", "unknown key limits.runz"),
        ("[node]", "colour = 1\n[node]", "unknown key colour"),
        ('data_dir = "data"', "", "missing key node.data_dir"),
        ("batch = 64", "batch = 640", "pools.batch"),
        ("batch = 64", "batch = true", "pools.batch"),
        ("port = 9645", 'port = "9645"', "mesh.port"),
        ("port = 9645", "port = 65536", "mesh.port"),
        ("poll_seconds = 1.0", "poll_seconds = 0", "chain.poll_seconds"),
        ("poll_seconds = 1.0", "poll_seconds = nan", "chain.poll_seconds"),
        ('finality = "finalized"', 'finality = "earliest"', "chain.finality"),
        ('finality = "finalized"', "finality = -1", "chain.finality"),
        ('data_dir = "data"', "data_dir = 5", "node.data_dir"),
        ('data_dir = "data"', 'data_dir = ""', "node.data_dir"),
        ("# party = 1", "party = 0", "node.party"),
        (ROUTER, "0xabcd", "chain.router"),
        (ROUTER, ROUTER + "\\n", "chain.router"),
        ("http://127.0.0.1:8545", "ftp://x", "[chain] rpc"),
        ("http://127.0.0.1:8545", "http://", "[chain] rpc"),
        ("http://127.0.0.1:8545", "http://x:99999", "[chain] rpc"),
        ('rpc = ["http://127.0.0.1:8545"]', "rpc = []", "chain.rpc"),
        ('key_file = "store.key"', "", "exactly one"),
        ('key_file = "store.key"', 'key_file = "a"\npassphrase_env = "B"', "exactly one"),
        ('# tls_cert = "api.pem"', 'tls_cert = "api.pem"', "come together"),
        ("low = 0", "low = 5", "together"),
        ("low = 0 ", "low = 300 #", "together"),
        ("max_body = 1048576", "max_body = 100000000", "api.max_body"),
        ("gateways = []", 'gateways = ["gateway.example"]', "gateways"),
        ("unverified = 64", "unverified = 3", "limits.unverified"),
        ("bytes_per_second = 1048576", "bytes_per_second = 1", "limits.bytes_per_second"),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, TEXT.replace(old, new, 1))
    assert message in str(caught.value)
    assert str(tmp_path / "node.toml") in str(caught.value)


def test_marks_out_of_order_are_refused(tmp_path: Path) -> None:
    for low, high in ((200, 100), (1, 63)):
        text = TEXT.replace("low = 0", f"low = {low}").replace("high = 0", f"high = {high}")
        with pytest.raises(ConfigError, match="low <= high"):
            load_text(tmp_path, text)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[node", b"a = 1\na = 2", b""])
def test_a_file_that_is_no_toml_of_ours_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"node\.toml"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load(tmp_path / "nowhere.toml")


def test_a_secret_put_into_the_file_by_mistake_is_not_repeated(tmp_path: Path) -> None:
    for key in ("passphrase", "passphrase_env"):
        with pytest.raises(ConfigError) as caught:
            load_text(tmp_path, TEXT.replace('key_file = "store.key"', f'{key} = "hunter2 hunter2"'))
        assert "hunter2" not in str(caught.value)


def test_values_that_would_be_refused_are_not_written() -> None:
    bad: list[dict[str, Any]] = [
        {"router": "0x12"},
        {"rpc": []},
        {"party": 70000},
        {"key_file": "a", "passphrase_env": "B"},
    ]
    for change in bad:
        with pytest.raises(ConfigError):
            dump_default(**{"rpc": ["http://x"], "router": ROUTER, **change})


LOGINS = {
    "passkey": {"rp_ids": ["wallet.example"], "origins": ["https://wallet.example"]},
    "discord": {"application_id": "123"},
    "oidc": {"issuers": [{"name": "g", "issuer": "https://issuer.example", "client_ids": ['a"b']}]},
}


def test_the_sections_of_login_methods_are_read_into_their_own_shapes(tmp_path: Path) -> None:
    text = dump_default(rpc=["http://127.0.0.1:8545"], router=ROUTER, auth=LOGINS)
    found = load_text(tmp_path, text).auth
    assert found.domains == ["localhost"]
    assert set(found.methods) == set(LOGINS)
    for name, settings in found.methods.items():
        assert type(settings) is methods()[name].settings_type
    assert found.methods["discord"].application_id == "123"
    assert found.methods["oidc"].issuers[0].client_ids == ['a"b']
    assert load_text(tmp_path, TEXT).auth.methods == {}


@pytest.mark.parametrize(("section", "says"), [
    ({"magic": {"x": 1}}, "unknown key auth.magic"),
    ({"methods": {"discord": 1}}, "unknown key auth.methods"),
    ({"siwe": {"x": 1}}, "auth.siwe: this login method has no settings"),
    ({"discord": {}}, "missing key auth.discord.application_id"),
    ({"discord": {"application_id": 5}}, "auth.discord.application_id: Expected `str`"),
    ({"discord": {"application_id": "5", "extra": 1}}, "unknown key auth.discord.extra"),
    ({"discord": {"application_id": "5", "base_url": "http://discord.example"}}, "auth.discord: "),
])  # fmt: skip
def test_a_wrong_section_of_a_login_method_is_refused_by_name(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        dump_default(rpc=["http://127.0.0.1:8545"], router=ROUTER, auth=section)


def test_every_login_methods_settings_are_frozen_and_refuse_what_they_do_not_know() -> None:
    for method in methods().values():
        if method.settings_type is not None:
            assert method.settings_type.__struct_config__.forbid_unknown_fields, method.name
            assert method.settings_type.__struct_config__.frozen, method.name


def test_whom_a_node_may_ask_are_the_hosts_in_the_settings() -> None:
    settings = auth_settings.parse(LOGINS)
    assert auth_settings.origins(settings) == {
        ("https", "wallet.example", 443), ("https", "discord.com", 443), ("https", "issuer.example", 443),
    }  # fmt: skip
    assert auth_settings.origins({}) == frozenset()


def test_the_operators_document_shows_every_setting_of_every_login_method(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()
    shown = next(block for block in re.findall(r"```toml\n(.*?)```", document, re.DOTALL) if "[auth.passkey]" in block)
    assert shown.count('"0x0') == 3
    keys = [SessionPrivateKey.generate(SeededRng(name)).public for name in ("one", "two", "three")]
    points = iter(f"0x{2 + key.y[-1] % 2:02x}{key.x.hex()}" for key in keys)
    text = re.sub(r'"0x0[23]\.\.\."', lambda _: f'"{next(points)}"', shown)
    found = tomllib.loads(text)["auth"]
    settings = auth_settings.parse({name: value for name, value in found.items() if name != "domains"})
    for name, method in methods().items():
        if method.settings_type is not None:
            assert name in settings, name
            missing = {each.name for each in msgspec.structs.fields(method.settings_type)} - set(found[name])
            assert not missing, (name, missing)
