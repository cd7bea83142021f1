"""`keyquorum sign ...` and `keyquorum send`: use a key.

Transactions and typed data come as JSON, from a file or from standard input (`-`). A stored session is used when
there is one; otherwise the command logs in with the account and keeps the session for the next time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from keyquorum.cli.keys import KeyArgument
from keyquorum.cli.output import CHAIN, JsonOption, command
from keyquorum.cli.spending import MaxFeeOption, limits_of
from keyquorum.cli.state import DEFAULT_DIR, AccountOption, DirOption, TimeoutOption, run_with_session

app = typer.Typer(help="Sign messages, transactions and typed data with a key.", no_args_is_help=True)
MAX_INPUT = 1 << 20
WEI = {"wei": 0, "gwei": 9, "ether": 18}


def read_json(source: str) -> dict[str, Any]:
    """Return the JSON object in a file, on standard input (`-`), or given as such; raise `ValueError`."""
    from keyquorum.algebra.strict_json import loads

    if source.lstrip().startswith("{"):
        data = source.encode()
    elif source == "-":
        data = sys.stdin.buffer.read(MAX_INPUT + 1)
    else:
        data = Path(source).read_bytes()
    value = loads(data, MAX_INPUT, max_number_digits=80, max_int=1 << 256)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


def parse_amount(text: str) -> int:
    """Return wei for `1000`, `5gwei`, `0.1ether`, `0.1 eth`; raise `ValueError` for what is no whole number of wei."""
    from decimal import Decimal, InvalidOperation

    cleaned = text.strip().lower().replace(" ", "")
    cleaned = cleaned + "er" if cleaned.endswith("eth") else cleaned
    unit = next((name for name in ("gwei", "ether", "wei") if cleaned.endswith(name)), "")
    digits = cleaned.removesuffix(unit)
    try:
        if len(digits) > 80 or not digits.replace(".", "", 1).isdecimal():
            raise InvalidOperation
        amount = Decimal(digits).scaleb(WEI[unit or "wei"])
        if amount != amount.to_integral_value():
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} is no amount: write 1000, 5gwei or 0.1ether") from None
    return int(amount)


@app.command("message")
def message(
    key: KeyArgument,
    text: Annotated[str, typer.Argument(help="The message, or 0x and hex digits with --hex.")],
    as_hex: Annotated[bool, typer.Option("--hex", help="The message is bytes in hex.")] = False,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Sign a personal message (EIP-191)."""
    with command(as_json) as out:
        content = bytes.fromhex(text.removeprefix("0x")) if as_hex else text
        with out.working("signing"):
            signed = run_with_session(
                directory, account_file, timeout, lambda client: client.sign_message(key, content)
            )
        out.result(signed.to_json(), title=signed.summary)


@app.command("transaction")
def transaction(
    key: KeyArgument,
    source: Annotated[str, typer.Argument(help="A file with the transaction as JSON, or - for standard input.")],
    directory: DirOption = DEFAULT_DIR,
    max_fee: MaxFeeOption = None,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Sign a transaction without sending it; what the JSON leaves out is filled in from the chain."""
    with command(as_json) as out:
        found = read_json(source)
        limits = limits_of(parse_amount(max_fee) if max_fee else None)
        with out.working("signing"):
            signed = run_with_session(
                directory, account_file, timeout, lambda client: client.sign_transaction(key, found), limits
            )
        result = signed.to_json()
        del result["status"]
        out.result(result, title=signed.signed.summary)


@app.command("typed-data")
def typed_data(
    key: KeyArgument,
    source: Annotated[str, typer.Argument(help="A file with the EIP-712 object as JSON, or - for standard input.")],
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Sign typed data (EIP-712)."""
    with command(as_json) as out:
        found = read_json(source)
        with out.working("signing"):
            signed = run_with_session(
                directory, account_file, timeout, lambda client: client.sign_typed_data(key, found)
            )
        out.result(signed.to_json(), title=signed.summary)


def send(
    key: KeyArgument,
    to: Annotated[str, typer.Argument(help="The receiver's address.")],
    value: Annotated[str, typer.Argument(help="How much: 1000 (wei), 5gwei, 0.1ether.")] = "0",
    data: Annotated[str, typer.Option("--data", help="Call data: 0x and hex digits.")] = "0x",
    directory: DirOption = DEFAULT_DIR,
    max_fee: MaxFeeOption = None,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Send ether from a key, or call a contract, in a type-2 transaction; waits until the chain executed it."""
    with command(as_json) as out:
        call = {"to": to, "value": parse_amount(value), "data": data}
        limits = limits_of(parse_amount(max_fee) if max_fee else None)
        with out.working("signing and sending"):
            sent = run_with_session(
                directory, account_file, timeout, lambda client: client.send_transaction(key, call), limits
            )
        out.result(sent.to_json(), title=sent.signed.summary)
        if sent.status != 1 and as_json:
            raise typer.Exit(CHAIN)
        if sent.status != 1:
            from keyquorum.client.errors import ChainError

            raise ChainError("the transaction was mined but reverted", code="reverted", hint="look at what it calls")
