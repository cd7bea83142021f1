"""Settings, folder, key and command line of a code service."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from codes.code_world import NETWORK, Mailboxes
from keyquorum.auth.code_assertion import CodeSettings, Issuer
from keyquorum.cli.main import app
from keyquorum.codes import config, folder, secrets_file
from keyquorum.node.settings.auth_settings import parse as parse_auth
from keyquorum.serving.settings import ConfigError

GOOD = f"""
network = "{NETWORK}"
id = "mail-a"
name = "Codes A"
key_file = "issuer.key"
counters_file = "counters.sqlite"
"""
EMAIL = '[email]\nhost = "mail.example"\nsender = "Codes A <codes@example.org>"\n'
SMS = '[sms]\nprefixes = ["+49"]\n'
HTTP = '[sms.http]\naccount = "AC1"\ntoken_file = "t"\nsender = "+4915100000"\n'
SMPP = '[sms.smpp]\nhost = "127.0.0.1"\nsystem_id = "x"\npassword_file = "p"\nsender = "Codes"\n'


def load(tmp_path: Path, text: str) -> config.CodesConfig:
    (tmp_path / "codes.toml").write_text(text)
    return config.load(tmp_path / "codes.toml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD + EMAIL + SMS + HTTP)
    assert found.key_file == tmp_path / "issuer.key" and found.email and found.email.tls == "starttls"
    assert found.sms and found.sms.http and found.sms.http.token_file == tmp_path / "t"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD, r"\[email\] or \[sms\]"),
        (GOOD.replace("31337", "x") + EMAIL, "network"),
        (GOOD.replace("mail-a", "Mail A") + EMAIL, "lower-case"),
        (GOOD.replace("Codes A", "C\\r\\nBcc: x") + EMAIL, "name"),
        (GOOD + "digits = 5\n" + EMAIL, "digits"),
        (GOOD + "digit = 8\n" + EMAIL, "digit"),
        (GOOD + 'host = "0.0.0.0"\n' + EMAIL, "TLS"),
        (GOOD + 'tls_cert = "x"\n' + EMAIL, "come together"),
        (GOOD + 'trusted_proxies = ["x"]\n' + EMAIL, "codes.toml"),
        (GOOD + EMAIL + 'tls = "none"\n', "TLS only"),
        (GOOD + EMAIL + 'tls = "maybe"\n', "tls"),
        (GOOD + EMAIL + 'username = "x"\n', "come together"),
        (GOOD + EMAIL.replace("codes@example.org", "codes"), "sender|mail address"),
        (GOOD + EMAIL.replace("Codes A <", "Cödes <"), "sender"),
        (GOOD + SMS, "exactly one"),
        (GOOD + SMS + HTTP + SMPP, "exactly one"),
        (GOOD + SMS.replace("+49", "49") + HTTP, "prefixes"),
        (GOOD + SMS.replace('["+49"]', "[]") + HTTP, "prefixes"),
        (GOOD + SMS + HTTP + 'base_url = "http://sms.example"\n', "TLS only"),
        (GOOD + SMS + HTTP + 'base_url = "https://u:p@sms.example"\n', "no https URL"),
        (GOOD + SMS + HTTP + 'base_url = "ftp://sms.example"\n', "no https URL"),
        (GOOD + SMS + HTTP.replace("AC1", "AC1/../x"), "account"),
        (GOOD + SMS + SMPP.replace("127.0.0.1", "smsc.example") + "tls = false\n", "TLS only"),
        (GOOD + EMAIL + "[limits]\nper_day = 0\n", "per_day"),
        ("nonsense", "not a TOML file"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, text)


def test_another_machine_may_be_served_with_tls_or_by_a_proxy(tmp_path: Path) -> None:
    for more in ('tls_cert = "c"\ntls_key = "k"\n', 'trusted_proxies = ["10.0.0.0/8"]\n'):
        assert load(tmp_path, GOOD + 'host = "0.0.0.0"\n' + more + EMAIL)


def test_the_documented_file_has_every_limit_at_its_default(tmp_path: Path) -> None:
    path, _ = folder.create(
        tmp_path / "a",
        network=NETWORK,
        issuer="mail-a",
        name="Codes A",
        smtp=("mail.example", 587, "starttls"),
        sender="Codes <codes@example.org>",
        sms=True,
    )
    assert config.load(path).limits == config.LimitsSection()
    written = tomllib.loads(path.read_text())
    assert set(written["limits"]) == set(config.LimitsSection.__struct_fields__)


# ---- the key ----------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_keys_again_and_three_different_ones(tmp_path: Path) -> None:
    made, other = secrets_file.create(tmp_path / "k"), secrets_file.create(tmp_path / "l")
    again = secrets_file.read(tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert made.public_key == again.public_key != other.public_key
    assert made.code_digest("i", "1") == again.code_digest("i", "1") != other.code_digest("i", "1")
    assert made.tag("email", "a") == again.tag("email", "a") != made.tag("sms", "a")
    assert made.code_digest("email", "a")[:16] != made.tag("email", "a")
    assert Issuer("a", made.public_key).key() == made.signing.public
    with pytest.raises(FileExistsError):
        secrets_file.create(tmp_path / "k")


def test_what_is_no_seed_is_refused_and_not_quoted(tmp_path: Path) -> None:
    for text in ("", "ab" * 31, "zz" * 32, "secret"):
        (tmp_path / "k").write_text(text)
        with pytest.raises(ValueError, match="holds no seed") as caught:
            secrets_file.read(tmp_path / "k")
        assert not text or text not in str(caught.value)


# ---- the command line -------------------------------------------------------------------------------------------


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["codes", *arguments])


def init(path: Path, *more: str) -> Result:
    return run("init", str(path), "--network", NETWORK, "--id", "mail-a", *more)


def smtp(port: int) -> tuple[str, ...]:
    return ("--smtp-host", "127.0.0.1", "--smtp-port", str(port), "--smtp-tls", "none", "--sender", "codes@example.org")


def test_init_prints_what_a_nodes_settings_need(tmp_path: Path) -> None:
    result = init(tmp_path / "a", *smtp(2525), "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert Issuer("x", found["public_key"]).key() == Issuer("y", found["jwk"]).key()
    seed = (tmp_path / "a" / "issuer.key").read_text().strip()
    assert seed not in result.output
    text = init(tmp_path / "b", *smtp(2525)).output
    sections = tomllib.loads(text[text.index("[auth.email]") : text.index("Then:")])["auth"]
    sections["email"]["required"] = 1
    found = parse_auth(sections)["email"]
    assert isinstance(found, CodeSettings) and found.issuers[0].id == "mail-a"


def test_init_never_overwrites_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    assert init(tmp_path / "a", *smtp(2525)).exit_code == 0
    before = (tmp_path / "a" / "issuer.key").read_text()
    result = init(tmp_path / "a", *smtp(2525))
    assert result.exit_code == 2 and "already" in result.output
    assert (tmp_path / "a" / "issuer.key").read_text() == before
    bad: Any = init(tmp_path / "b")
    assert bad.exit_code == 2 and list((tmp_path / "b").iterdir()) == []


def test_run_and_check_say_what_is_wrong_with_the_settings(tmp_path: Path) -> None:
    for command in ("run", "check"):
        result = run(command, "--config", str(tmp_path / "none.toml"), "--json")
        assert result.exit_code == 2 and "cannot be read" in json.loads(result.stdout)["error"]["message"]


def test_check_names_the_provider_that_is_down(tmp_path: Path) -> None:
    init(tmp_path / "a", *smtp(1))
    result = run("check", "--config", str(tmp_path / "a" / "codes.toml"), "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["faults"]["email"].startswith("127.0.0.1:1: ")


async def test_check_finds_nothing_wrong_with_what_works(tmp_path: Path, mailboxes: Mailboxes) -> None:
    import asyncio

    init(tmp_path / "a", *smtp(mailboxes.port))
    result = await asyncio.to_thread(run, "check", "--config", str(tmp_path / "a" / "codes.toml"), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["faults"] == {} and mailboxes.mails == []
