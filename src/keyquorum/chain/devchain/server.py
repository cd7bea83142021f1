"""JSON-RPC 2.0 over HTTP POST, in front of one `DevChain`.

The chain runs on one worker thread, so blocks are made one after the other while the event loop stays free to read and
answer. Calls that name their gas run on a second one: they may take long, read what never changes, and hold up only
each other. Bodies are at most 2 MB, batches at most 1,000 calls; what is not a request is answered with a JSON-RPC
error, and a bug in this program with -32603 and a line in the log, never with a traceback. Who may ask is in
`callers.py`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

from keyquorum.chain.devchain.callers import Callers, Refused, check_json, is_by_browser
from keyquorum.chain.devchain.chain import DevChain
from keyquorum.chain.devchain.methods import Methods
from keyquorum.chain.devchain.registry import is_open_to_pages
from keyquorum.chain.rpc import RpcError

MAX_BODY = 2 * 1024 * 1024
MAX_BATCH = 1000
STACK = 64 * 1024 * 1024
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL = -32603
NOT_FOR_PAGES = -32601
CORS = {
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type",
    "Access-Control-Allow-Private-Network": "true",
}

Json = dict[str, Any]
_log = logging.getLogger(__name__)


def _failure(code: int, message: str, request_id: Any = None, data: Any = None) -> Json:
    error: Json = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "id": request_id, "error": error}


def answer_one(methods: Methods, request: Any, by_page: bool = False) -> Json | None:
    """Return the response object to one request object, or nothing if it is a notification.

    What a web page asks (`by_page`) cannot move the chain's clock, its past, or its unlocked accounts.
    """
    if not isinstance(request, dict):
        return _failure(INVALID_REQUEST, "a request is an object")
    request_id = request.get("id")
    if isinstance(request_id, bool | list | dict):
        return _failure(INVALID_REQUEST, "an id is a string, a number or null")
    method, parameters = request.get("method"), request.get("params", [])
    if request.get("jsonrpc") != "2.0" or not isinstance(method, str):
        return _failure(INVALID_REQUEST, 'a request has "jsonrpc": "2.0" and a method', request_id)
    if parameters is None:
        parameters = []
    if not isinstance(parameters, list):
        return _failure(-32602, "params must be a list", request_id)
    if by_page and not is_open_to_pages(method):
        return _failure(NOT_FOR_PAGES, f"{method[:100]} is for programs: no web page may call it", request_id)
    try:
        result = methods.run(method, parameters)
    except RpcError as error:
        return _failure(error.code, error.message, request_id, error.data)
    except Exception:
        _log.exception("%s failed", method)
        return _failure(INTERNAL, "internal error", request_id)
    return {"jsonrpc": "2.0", "id": request_id, "result": result} if "id" in request else None


def answer(methods: Methods, body: bytes, by_page: bool = False) -> tuple[int, bytes]:
    """Return HTTP status and body for a request body; an empty body when it held only notifications."""
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return 400, msgspec.json.encode(_failure(PARSE_ERROR, "the body is not JSON that this server reads"))
    if not isinstance(request, list):
        response: Any = answer_one(methods, request, by_page)
    elif not request or len(request) > MAX_BATCH:
        response = _failure(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests")
    else:
        response = [reply for one in request if (reply := answer_one(methods, one, by_page)) is not None] or None
    return 200, b"" if response is None else msgspec.json.encode(response)


class _Call(msgspec.Struct):
    """What is looked at of a request before it is answered."""

    method: str
    params: list[Any]


def names_its_gas(body: bytes) -> bool:
    """Say whether a request is a single `eth_call` that says how much gas it may burn."""
    try:
        request = msgspec.json.decode(body, type=_Call)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return False
    return request.method == "eth_call" and isinstance(call := next(iter(request.params), None), dict) and "gas" in call


def _worker() -> ThreadPoolExecutor:
    """Return one thread whose stack holds the deepest nesting of EVM calls, whatever the platform gives by default."""
    worker = ThreadPoolExecutor(1, "devchain")
    usual = threading.stack_size(STACK)
    try:
        worker.submit(int).result()
    finally:
        threading.stack_size(usual)
    return worker


class DevChainServer:
    """A development chain that listens; an async context manager. `port` 0 takes a free one, then `url` names it."""

    def __init__(
        self,
        directory: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        """`hosts`: further names it is reached by; `origins`: pages that may ask, besides those of this machine."""
        self._callers = Callers(host, hosts, origins)
        self._directory = directory
        self._host = host
        self._port = port
        self._worker = _worker()
        self._beside = _worker()
        self._runner: web.AppRunner | None = None
        self._chain: DevChain | None = None
        self._methods: Methods | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Open the chain and listen; `StoreLocked`, `ValueError` or `OSError` when that cannot be done."""
        try:
            self._chain = await self._run(DevChain, self._directory)
            self._methods = Methods(self._chain)
            application = web.Application(client_max_size=MAX_BODY)
            application.router.add_route("*", "/{path:.*}", self._handle)
            # A client that is still sending a refused body is read for a moment, so that it sees the answer.
            self._runner = web.AppRunner(application, access_log=None, lingering_time=1.0, handle_signals=False)
            await self._runner.setup()
            site = web.TCPSite(self._runner, self._host, self._port)
            await site.start()
            self._port = self._runner.addresses[0][1]
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop listening, finish the block in hand, close the file."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await asyncio.to_thread(self._beside.shutdown, cancel_futures=True)
        if self._chain is not None:
            await self._run(self._chain.close)
            self._chain = None
        self._worker.shutdown()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    async def _run_beside(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._beside, function, *arguments)

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            page = self._callers.page(request.headers)
        except Refused as refused:
            return self._refusal(refused.status, str(refused))
        response = await self._answer(request)
        response.headers["Vary"] = "Origin"
        if page is not None:
            response.headers.update(CORS | {"Access-Control-Allow-Origin": page})
        return response

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method == "OPTIONS":
            return web.Response(status=204)
        if request.method != "POST":
            return self._refusal(405, "send JSON-RPC with POST")
        try:
            check_json(request.content_type)
        except Refused as refused:
            return self._refusal(refused.status, str(refused))
        if (request.content_length or 0) > MAX_BODY:
            return self._too_large()
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._too_large()
        run = self._run_beside if names_its_gas(body) else self._run
        status, content = await run(answer, self._methods, body, is_by_browser(request.headers))
        return self._json(status if content else 204, content)

    def _too_large(self) -> web.Response:
        response = self._refusal(413, f"at most {MAX_BODY} bytes")
        response.force_close()
        return response

    def _refusal(self, status: int, message: str) -> web.Response:
        return self._json(status, msgspec.json.encode(_failure(INVALID_REQUEST, message)))

    def _json(self, status: int, content: bytes) -> web.Response:
        return web.Response(status=status, body=content or None, content_type="application/json")


__all__: Sequence[str] = ("DevChainServer", "answer", "answer_one")
