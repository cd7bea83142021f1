"""What a command may cost: an option that allows more, and a question where a person sits at the terminal."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from keyquorum.chain.fees import SpendingLimits
    from keyquorum.client.errors import TooExpensive

MaxFeeOption = Annotated[
    str | None, typer.Option("--max-fee", help="The most that gas may cost, such as 0.05ether; default: 0.02ether.")
]
MaxPriceOption = Annotated[
    str | None, typer.Option("--max-price", help="The most that a key may cost, such as 0.05ether; default: 0.01ether.")
]


def limits_of(max_fee: int | None = None, max_price: int | None = None) -> SpendingLimits:
    """Return the limits of a command, in wei; whoever names a sum for gas lets that sum alone decide."""
    from keyquorum.chain.fees import SpendingLimits

    limits = SpendingLimits()
    if max_fee is not None:
        limits = replace(limits, max_fee=max_fee, tip_multiple=1 << 256, max_gas=1 << 64)
    return limits if max_price is None else replace(limits, max_mint_cost=max_price)


def agree(error: TooExpensive) -> bool:
    """Ask the person at the terminal whether to pay more; raise `error` with the right option where nobody sits."""
    option = "--max-price" if error.setting == "max_mint_cost" else "--max-fee"
    error.hint = f"nothing was signed or paid; look at the chain endpoint, or allow it with {option}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise error
    typer.echo(f"\n{error.message}. Pay it all the same? [y/N] ", nl=False, err=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
