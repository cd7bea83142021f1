"""`keyquorum fund KEY AMOUNT`: give a key ether from the folder's account, so that it can pay for what it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyquorum.cli.output import JsonOption, command
from keyquorum.cli.payload import parse_amount
from keyquorum.cli.person import Person, YesOption
from keyquorum.cli.spending import MaxFeeOption, limits_of
from keyquorum.cli.state import DEFAULT_DIR, AccountOption, DirOption, TimeoutOption, run_with_session, token_named

if TYPE_CHECKING:
    from keyquorum.client.async_client import AsyncClient

# The chain that `keyquorum up` runs, whose ether is worth nothing.
DEVELOPMENT_CHAIN = 31337


def fund(
    key: Annotated[
        str, typer.Argument(help="The key's token id, or any address: 0x and hex digits.", metavar="KEY_OR_ADDRESS")
    ],
    amount: Annotated[str, typer.Argument(help="How much: 1000 (wei), 5gwei, 0.1ether.")],
    yes: YesOption = False,
    max_fee: MaxFeeOption = None,
    directory: DirOption = DEFAULT_DIR,
    account_file: AccountOption = None,
    timeout: TimeoutOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Send ether from your account to a key (or an address). On a chain with real money it asks first."""
    with command(as_json) as out:
        wei = parse_amount(amount)

        async def work(client: AsyncClient) -> dict[str, Any]:
            to = await _address(client, key)
            if client.facts.chain_id != DEVELOPMENT_CHAIN:
                Person().agree(f"Send {amount} of your account's to {to} on chain {client.facts.chain_id}", yes)
            with out.working("sending"):
                receipt = await client.send_from_account(to, value=wei)
            balance = await client.chain.rpc.balance(to)
            return {"address": to, "sent": str(wei), "balance": str(balance), "transaction": receipt["transactionHash"]}

        limits = limits_of(parse_amount(max_fee) if max_fee else None)
        found = run_with_session(directory, account_file, timeout, work, limits)
        out.result(found, title=f"{key} has what it needs to pay", shown=found | {"sent": amount})


async def _address(client: AsyncClient, name: str) -> str:
    """Return the address of the key that is named by its token id, or the address that is named."""
    from keyquorum.cli.state import ADDRESS_CHARACTERS
    from keyquorum.evm.address import checksum

    if len(name) == ADDRESS_CHARACTERS and name.startswith("0x"):
        return checksum(name)
    return (await client.key(await token_named(client, name))).address
