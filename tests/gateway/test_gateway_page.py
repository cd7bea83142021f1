"""The page as HTTP serves it: every file, under the policy, from memory, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import aiohttp
import pytest

import keyquorum.web
from keyquorum.gateway.app import Server
from keyquorum.gateway.page import connections, policy

WEB = Path(keyquorum.web.__file__).parent
PATHS = ["/", "/page.css", "/icon.svg", *(f"/js/{path.name}" for path in sorted((WEB / "js").glob("*.js")))]
TYPES = {"": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def rules(text: str) -> dict[str, str]:
    return dict(rule.split(" ", 1) for rule in text.split("; "))


@pytest.mark.parametrize("path", PATHS)
async def test_every_file_is_served_with_its_type_under_the_policy(
    path: str, server: Server, http: aiohttp.ClientSession
) -> None:
    file = WEB / ("index.html" if path == "/" else path[1:])
    async with http.get(server.url + path) as response:
        assert (response.status, await response.read()) == (200, file.read_bytes())
        headers = response.headers
    assert headers["Content-Type"] == TYPES[path.partition(".")[2]] + "; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    found = rules(headers["Content-Security-Policy"])
    assert found["default-src"] == found["base-uri"] == found["frame-ancestors"] == found["form-action"] == "'none'"
    assert found["script-src"] == found["style-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"] and "*" not in headers["Content-Security-Policy"]
    async with http.get(server.url + path, headers={"If-None-Match": headers["ETag"]}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["Content-Security-Policy"] == headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    ["/js/", "/js/none.js", "/js/..%2Findex.html", "/js/%2e%2e%2fpage.css", "/index.html", "/js/main.js/", "/web"],
)
async def test_nothing_but_the_files_is_served(path: str, server: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(server.url + path) as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "no_such_path"


async def test_every_module_and_file_that_the_page_names_exists(server: Server, http: aiohttp.ClientSession) -> None:
    named = set(re.findall(r'(?:src|href)="(/[^"]*)"', (WEB / "index.html").read_text()))
    for path in (WEB / "js").glob("*.js"):
        named |= {f"/js/{name}" for name in re.findall(r'from "\./([^"]+)"', path.read_text())}
    assert named <= set(PATHS) and len(named) > 15
    for path in named:
        async with http.get(server.url + path) as response:
            assert response.status == 200


def test_every_element_that_a_module_asks_for_is_in_the_page() -> None:
    page = (WEB / "index.html").read_text()
    present = set(re.findall(r'id="([^"]+)"', page))
    for path in (WEB / "js").glob("*.js"):
        text = path.read_text()
        for name in re.findall(r'element\("([^"]+)"\)', text) + re.findall(r'(?:showWays|onSubmit)\("([^"]+)"', text):
            assert name in present, (path.name, name)


def test_the_policy_names_exactly_the_origins_that_the_page_asks() -> None:
    file = {"network": "n", "rpc": "https://rpc.example/key/abc?x=1", "gateway": "https://gateway.example"}
    login = {
        "oidc": [
            {"issuer": "https://accounts.example", "authorization_endpoint": ""},
            {"issuer": "https://known.example", "authorization_endpoint": "https://known.example/authorize"},
        ],
        "codes": ["https://codes.example:8443/a", "http://127.0.0.1:9"],
    }
    connect = rules(policy(connections(file, login)))["connect-src"].split(" ")
    assert connect[0] == "'self'"
    assert set(connect[1:]) == {
        "https://rpc.example",
        "https://accounts.example",
        "https://codes.example:8443",
        "http://127.0.0.1:9",
    }


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://a.example;script-src *",
        "https://a.example 'unsafe-inline'",
        "https://*.example",
        "https://user@a.example",
        "nothing",
        "data:,x",
    ],
)
def test_what_is_no_plain_origin_stays_out_of_the_policy(url: str) -> None:
    assert rules(policy([url]))["connect-src"] == "'self'"
