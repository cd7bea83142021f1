"""`keyquorum sign ...` and `keyquorum send`: use a key.

Payloads come as arguments, from files, or from standard input (`-`): `payload.py`. A stored session is used when there
is one; otherwise the command logs in with the account and keeps the session for the next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keyquorum.cli.output import CHAIN, JsonOption, Output, command
from keyquorum.cli.payload import FileOption, parse_amount, read_data, read_json, read_message
from keyquorum.cli.person import Person, YesOption
from keyquorum.cli.spending import MaxFeeOption, limits_of
from keyquorum.cli.state import DEFAULT_DIR, AccountOption, DirOption, KeyArgument, TimeoutOption, run_with_key

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient
    from keyquorum.client.results import SentTransaction

app = typer.Typer(help="Sign messages, transactions and typed data with a key.", no_args_is_help=True)


@app.command("message")
def message(
    key: KeyArgument,
    text: Annotated[
        str | None, typer.Argument(help="The message, or - for standard input; with --hex as hex digits.")
    ] = None,
    file: FileOption = None,
    as_hex: Annotated[bool, typer.Option("--hex", help="The message is bytes in hex.")] = False,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Sign a personal message (EIP-191): exactly the bytes that are given, a line's end among them."""
    with command(as_json) as out:
        content = read_message(text, file, as_hex)
        with out.working("signing"):
            signed = run_with_key(
                directory, account_file, timeout, key, lambda client, token: client.sign_message(token, content)
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
            signed = run_with_key(
                directory,
                account_file,
                timeout,
                key,
                lambda client, token: client.sign_transaction(token, found),
                limits,
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
            signed = run_with_key(
                directory, account_file, timeout, key, lambda client, token: client.sign_typed_data(token, found)
            )
        out.result(signed.to_json(), title=signed.summary)


def send(
    key: KeyArgument,
    to: Annotated[str, typer.Argument(help="The receiver's address.")],
    value: Annotated[str, typer.Argument(help="How much: 1000 (wei), 5gwei, 0.1ether.")] = "0",
    data: Annotated[str, typer.Option("--data", help="Call data: 0x and hex digits, or - for standard input.")] = "0x",
    yes: YesOption = False,
    directory: DirOption = DEFAULT_DIR,
    max_fee: MaxFeeOption = None,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Send ether from a key, or call a contract, in a type-2 transaction; waits until the chain executed it.

    First it shows what the nodes will be asked to sign, in their own words, and asks.
    """
    with command(as_json) as out:
        call = {"to": to, "value": parse_amount(value), "data": read_data(data)}
        limits = limits_of(parse_amount(max_fee) if max_fee else None)

        async def work(client: AsyncClient, token: int) -> SentTransaction:
            with out.working("asking the chain"):
                complete, summary = await client.prepare_transaction(token, call)
            Person().agree(f"{summary}\nSign and send this", yes)
            with out.working("signing and sending"):
                return await client.send_transaction(token, complete)

        sent = run_with_key(directory, account_file, timeout, key, work, limits)
        out.result(sent.to_json(), title=sent.signed.summary)
        _check_executed(sent, out)


def _check_executed(sent: SentTransaction, out: Output) -> None:
    """End the command with the chain's exit code when the transaction was reverted."""
    if sent.status != 1 and out.as_json:
        raise typer.Exit(CHAIN)
    if sent.status != 1:
        from keyquorum.client.errors import ChainError

        raise ChainError("reverted", "the transaction was mined but reverted", "look at what it calls")
