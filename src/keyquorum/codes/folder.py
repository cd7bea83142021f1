"""A code service's folder, made once by `keyquorum codes init`.

codes.toml   the settings, documented in the file      issuer.key      the one secret; mode 0600
counters.sqlite   what was sent and guessed            *.password      the providers' secrets, put there by the operator
"""

from __future__ import annotations

import json
from pathlib import Path

from keyquorum.codes import config, secrets_file

KEY_FILE, SETTINGS, COUNTERS = "issuer.key", "codes.toml", "counters.sqlite"
_HEAD = """\
# Settings of a Keyquorum code service. Paths are relative to this file. No secret belongs in here.

network = {network}          # eip155:<chain id>:<PubkeyRouter>: logins at this network only
id = {id}                    # the issuer's name in the nodes' settings
name = {name}                # what messages call this service
key_file = "issuer.key"
counters_file = "counters.sqlite"
host = "127.0.0.1"
port = {port}
digits = 8                   # of a code, 6 to 10
# tls_cert = "cert.pem"      # needed unless a proxy on this machine does TLS
# tls_key = "key.pem"
# trusted_proxies = ["127.0.0.1/32"]   # whose X-Forwarded-For is believed
"""
_EMAIL = """
[email]
host = {host}
port = {port}
tls = {tls}                  # "starttls" or "implicit"; "none" on this machine only
sender = {sender}
# username = "codes"
# password_file = "smtp.password"
"""
_SMS = """
[sms]
prefixes = ["+49"]           # the countries you pay messages to; "+" is all of them

[sms.http]                   # an HTTP API of Twilio's shape; or [sms.smpp] host, port, system_id, password_file, sender
account = "AC-your-account"
token_file = "sms.token"
sender = "+4915123456789"
base_url = "https://api.twilio.com"
"""
_LIMITS = """
[limits]                     # spans slide
per_address_hour = 5         # codes for one address
per_address_day = 15
failures_per_day = 10        # wrong codes for one address; then it is locked
per_client_hour = 20         # codes asked for from one network address
per_range_day = 30           # SMS to numbers that differ in the last three digits only
per_day = 5000               # messages in all
requests_per_second = 20     # of one network address; five times that of all together
connections = 512            # HTTP connections at a time
connections_per_address = 64  # of those, from one network address
open_challenges = 10000
sending = 64                 # messages under way at once
"""


def create(
    folder: Path,
    *,
    network: str,
    issuer: str,
    name: str,
    port: int = 7490,
    smtp: tuple[str, int, str] | None = None,
    sender: str = "",
    sms: bool = False,
) -> tuple[Path, secrets_file.Keys]:
    """Make the folder; return the path of its settings, and its keys.

    `smtp` is host, port and TLS of the mail server. Raises `FileExistsError` when a key is already there, and
    `ValueError` when a setting is wrong; then nothing is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    values = {"network": network, "id": issuer, "name": name, "port": port}
    text = _HEAD.format(**{key: json.dumps(value) for key, value in values.items()})
    if smtp is not None:
        found = {"host": smtp[0], "port": smtp[1], "tls": smtp[2], "sender": sender}
        text += _EMAIL.format(**{key: json.dumps(value, ensure_ascii=False) for key, value in found.items()})
    text += (_SMS if sms else "") + _LIMITS
    if (folder / SETTINGS).exists() or (folder / KEY_FILE).exists():
        raise FileExistsError(f"there is a code service in {folder} already")
    path = folder / SETTINGS
    path.write_text(text)
    try:
        config.load(path)
        return path, secrets_file.create(folder / KEY_FILE)
    except BaseException:
        path.unlink()
        raise
