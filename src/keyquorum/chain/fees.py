"""What a payment may cost: whoever pays sets limits, and no endpoint, contract or gateway can make him pay more.

Base fee, tip and gas are an endpoint's words, the price of a key is its owner's. Each is looked at before anything is
signed. The base fee cannot be checked by itself, so two limits stand together: the tip is at most a multiple of the
base fee, and gas times price, the most that the transaction can take, is at most a sum in wei.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TIP = 10**9
# Where the base fee is next to nothing, no multiple of it would get a transaction in.
LOW_TIP = 5 * 10**9
GWEI, ETHER = 10**9, 10**18


class TooDear(Exception):
    """A price above what the payer allows: `asked` and `allowed` in the unit of `setting`, a field of the limits."""

    def __init__(self, what: str, asked: int, allowed: int, setting: str) -> None:
        super().__init__(f"{what} is {amount(asked, setting)}, at most {amount(allowed, setting)} is allowed")
        self.asked = asked
        self.allowed = allowed
        self.setting = setting


@dataclass(frozen=True)
class SpendingLimits:
    """The most that one transaction may cost.

    `max_fee`: gas times price, in wei; `tip_multiple`: the tip in base fees; `max_gas`: gas; `max_mint_cost`: the price
    of one key, in wei.
    """

    max_fee: int = 2 * ETHER // 100
    tip_multiple: int = 10
    max_gas: int = 30_000_000
    max_mint_cost: int = ETHER // 100

    def __post_init__(self) -> None:
        if self.max_fee < 0 or self.tip_multiple < 1 or self.max_gas < 0 or self.max_mint_cost < 0:
            raise ValueError("a limit of spending is not negative, and a tip may be one base fee")

    def tip(self, base_fee: int, tip: int) -> int:
        """Return `tip` (wei per gas); raise `TooDear` when it is out of proportion to the base fee."""
        allowed = max(self.tip_multiple * base_fee, LOW_TIP)
        if tip > allowed:
            raise TooDear("the tip that the chain endpoint names", tip, allowed, "tip_multiple")
        return tip

    def check(self, gas: int, price: int) -> None:
        """Raise `TooDear` when a transaction could take more; `price` in wei per gas."""
        if gas > self.max_gas:
            raise TooDear("the gas of the transaction", gas, self.max_gas, "max_gas")
        if gas * price > self.max_fee:
            raise TooDear("the fee of the transaction", gas * price, self.max_fee, "max_fee")

    def mint_cost(self, cost: int) -> int:
        """Return the price of a key; raise `TooDear` when it is more than allowed."""
        if cost > self.max_mint_cost:
            raise TooDear("the price of a key", cost, self.max_mint_cost, "max_mint_cost")
        return cost


# Of a service that pays for many at once, or deploys.
SERVICE_LIMITS = SpendingLimits(max_fee=ETHER // 4)


def amount(value: int, setting: str) -> str:
    """Return a value of a limit as people read it, exactly."""
    if setting == "max_gas":
        return f"{value:,} gas"
    unit, size = ("gwei", GWEI) if setting == "tip_multiple" else ("ether", ETHER)
    whole, rest = divmod(value, size)
    decimals = f"{rest:0{len(str(size)) - 1}d}".rstrip("0")
    return f"{whole}{'.' + decimals if decimals else ''} {unit}"
