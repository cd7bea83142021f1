"""Ask every node of the committee the same, at once: for what all of them keep, each by itself.

Unlike `fanout.py` this combines nothing and retries nothing: whoever asks gets what each node says, and judges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from keyquorum.client.committee import Committee
from keyquorum.client.errors import KeyquorumError, Refused, Unavailable
from keyquorum.client.transport import NodeError, NodeRefused, Transport

A = TypeVar("A")


@dataclass
class Answers(Generic[A]):
    """What the nodes said, by party: their answers, or why there is none."""

    given: dict[int, A] = field(default_factory=dict)
    missing: dict[int, NodeError] = field(default_factory=dict)

    def require(self, needed: int) -> Mapping[int, A]:
        """Return the answers when there are at least `needed`; else raise what the others said."""
        if len(self.given) >= needed:
            return self.given
        refusals = [error for _, error in sorted(self.missing.items()) if isinstance(error, NodeRefused)]
        if len(refusals) > len(self.missing) // 2:
            raise _as_refused(refusals[0])
        causes = {party: str(error) for party, error in sorted(self.missing.items())}
        raise Unavailable(
            "unavailable",
            f"{len(self.given)} nodes answer, {needed} are needed",
            needed=needed,
            live=len(self.given),
            causes=causes,
        )


async def ask_all(
    committee: Committee, transport: Transport, path: str, body: bytes, shape: type[A], seconds: float
) -> Answers[A]:
    """POST `body` to every node and return what came within `seconds`."""
    found: Answers[A] = Answers()

    async def ask(party: int, url: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                found.given[party] = await transport.post(url + path, body, shape)
        except NodeError as error:
            found.missing[party] = error
        except TimeoutError:
            found.missing[party] = NodeError("", f"said nothing for {seconds:g} s")

    await asyncio.gather(*(ask(party, url) for party, url in committee.urls.items()))
    found.given = dict(sorted(found.given.items()))
    return found


def _as_refused(error: NodeError) -> KeyquorumError:
    return Refused(error.code or "refused", error.message, error.hint, error.status)
