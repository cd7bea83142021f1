"""The gateway's side of HTTP: how it says no, what it counts, and how much a body may have; around it `serving.shell`.

Whatever is wrong with a request ends in a 4xx; 503 means that nodes or the chain are missing, never that the input was
bad. CORS is open, because nothing here depends on cookies or on who asks: authority is in signatures alone.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from keyquorum.auth.request import MAX_BYTES
from keyquorum.client.errors import Refused
from keyquorum.formats.strict_json import BadJson
from keyquorum.refusal import MALFORMED, NOT_PROVEN, Invalid, Refusal
from keyquorum.serving.buckets import Buckets
from keyquorum.serving.problem import HUNG_UP
from keyquorum.serving.shell import Asked, Handler, Watch, too_many

# What a session signed is a certificate, what was lent, and a request; a login has a proof as well.
SESSION_BODY = 64 * 1024
LOGIN_BODY = 128 * 1024
MAX_BODY = MAX_BYTES + SESSION_BODY
COMMITMENT_BODY = 16 * 1024
FAILURE_SECONDS = 600.0
SEE = "see /v1/openapi.json for the exact form"


class Metrics(Watch):
    """Requests by path and status, and how long they took."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "keyquorum_gateway_requests", "requests answered", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram("keyquorum_gateway_seconds", "seconds to answer", ["path"], registry=self.registry)

    def text(self) -> bytes:
        """Return the Prometheus exposition."""
        return generate_latest(self.registry)

    def end(self, begun: Any, route: str, status: int, code: str, seconds: float) -> None:
        """Count a request that was answered."""
        if code != HUNG_UP:
            self.requests.labels(route, str(status)).inc()
            self.seconds.labels(route).observe(seconds)


def explain(error: Exception) -> Refusal | None:
    """Return the refusal for what a service raises; None for a fault of ours."""
    if isinstance(error, BadJson):
        return Refusal(f"json_{error.code}", str(error), SEE, MALFORMED)
    if isinstance(error, ValueError):
        return Refusal("bad_value", str(error)[:300], SEE, MALFORMED)
    return None


def counting_failures(handle: Handler, failed_logins: int) -> Handler:
    """Return `handle`, a login, for addresses with fewer than `failed_logins` failures in ten minutes.

    The nodes leave that to a gateway they trust, since to them all its users have one address.
    """
    failures = Buckets(failed_logins, FAILURE_SECONDS)

    async def handle_counted(asked: Asked) -> Any:
        if wait := failures.wait(asked.client):
            raise too_many("too_many_failures", "too many failed logins", wait)
        try:
            return await handle(asked)
        except (Invalid, Refused) as error:
            if error.status == NOT_PROVEN:
                failures.take(asked.client)
            raise

    return handle_counted
