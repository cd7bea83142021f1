"""How a chain endpoint says no: what the EVM answered, told apart from what the endpoint could not do.

A contract that halts has answered, in whatever way it halted: it reverted, ran out of gas, met an invalid instruction,
jumped nowhere, left its stack. Programs agree on the code and the words for a revert only. The other halts come with
-32000, -32003, -32015 or -32603, and with words of each program's own: "invalid opcode: INVALID", "EVM error:
InvalidFEOpcode", "Bad instruction". What they have in common is a few words, and here is where they are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REVERTED = 3
# What OpenEthereum and those who copied its codes say of every execution that failed.
EXECUTION_FAILED = -32015
# Only these execute something for an answer; of other methods the same words would mean something else.
_EXECUTES = frozenset({"eth_call", "eth_estimateGas"})
# As letters and digits alone: "out of gas", "OutOfGas(Basic)" and "OUT_OF_GAS" are one.
_HALTS = (
    "vmexecutionerror", "vmexception", "evmerror", "executionreverted", "transactionreverted", "executionhalted",
    "executionaborted", "processingcouldnotbecompleted", "outofgas", "gasuint64overflow", "invalidopcode",
    "badinstruction", "opcodenotfound", "invalidfeopcode", "undefinedinstruction", "stackunderflow", "stackoverflow",
    "stacklimitreached", "insufficientstackitems", "toomanystackitems", "invalidjump", "badjump", "writeprotection",
    "staticcallviolation", "illegalstatechange", "returndataoutofbounds", "outofoffset", "accessviolation",
    "calldepthexceeded", "codesizeexceeded", "invalidcode", "precompile",
)  # fmt: skip
_PREFIX = "Reverted "  # OpenEthereum's words before the data


class RpcError(Exception):
    """The server answered with a JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code
        self.message = message
        self.data = data

    @property
    def revert_data(self) -> bytes:
        """What the contract returned when it reverted (ABI-encoded error), or nothing."""
        data = self.data.get("data") if isinstance(self.data, Mapping) else self.data
        try:
            return from_hex(data.removeprefix(_PREFIX) if isinstance(data, str) else data)
        except ValueError:
            return b""


class Reverted(RpcError):
    """The EVM refused, however it halted: in `eth_call`, `eth_estimateGas`, or a mined transaction (with `receipt`)."""

    def __init__(self, code: int, message: str, data: Any = None, receipt: dict[str, Any] | None = None) -> None:
        super().__init__(code, message, data)
        self.receipt = receipt


class RpcUnreachable(Exception):
    """No usable answer: refused, timed out, too large, or not JSON-RPC."""


def from_hex(text: Any) -> bytes:
    """Decode `0x...` of an even number of digits; `ValueError` for anything else."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError("not a 0x-prefixed hex string")
    return bytes.fromhex(text[2:])


def as_error(error: Any, method: str) -> RpcError:
    """Return the error object of a reply to `method` as an exception: `Reverted` if the EVM said no."""
    if not isinstance(error, Mapping):
        return RpcError(-32603, "malformed error object")
    code, message = error.get("code"), error.get("message")
    code = code if isinstance(code, int) else -32603
    message = message[:2000] if isinstance(message, str) else "no message"
    kind = Reverted if _is_halt(code, message, method) else RpcError
    return kind(code, message, error.get("data"))


def _is_halt(code: int, message: str, method: str) -> bool:
    if code == REVERTED or message.startswith("execution reverted"):
        return True
    if method not in _EXECUTES:
        return False
    squeezed = re.sub(r"[^a-z0-9]", "", message.lower())
    return code == EXECUTION_FAILED or any(words in squeezed for words in _HALTS)
