"""Write docs/errors.md: every refusal that the code can give, with what happened and what to do about it.

A refusal is made by a subclass of `keyquorum.refusal.Refusal`, or by a function that takes a `code` first, always in
the order code, message, hint; whatever is not a text in the code (a number, a name) is written as "...".
"""

from __future__ import annotations

import ast
import sys
from collections import ChainMap
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/errors.md"
ANYTHING = "..."
ROOT_CLASS = "Refusal"
ORDER = ("code", "message", "hint")
# Readers of JSON complain in words of their own; whoever received the text puts this before them.
JSON_COMPLAINT = "BadJson"
HEAD = """# Every refusal

Whoever is refused anything, by a node, a gateway, a code service, the client or a command, gets the same three things:
a `code` for programs, a message, and what to do next. Over HTTP that is `{"error": {"code", "message", "hint"}}` with a
status of 400 (not well formed), 401 (does not hold), 403 (not allowed), 404, 409, 413, 429 (too much) or 503 (cannot
serve now); a command with `--json` prints the same object. `...` stands for what differs from case to case.

This page is written by `tools/list_errors.py` from the code; a test holds it to that.

| code | what happened | what to do | said by |
|---|---|---|---|
"""


Texts = MutableMapping[str, str]


class Row(NamedTuple):
    """One way to be refused; `place` is the module that says it."""

    code: str
    message: str
    hint: str
    place: str


@dataclass(frozen=True)
class Maker:
    """What makes a refusal: where its code, message and hint stand among the arguments, and the hint without one."""

    names: tuple[str, ...]
    hint: str | None


class _Module:
    """One file, and the names that it gives to texts: its own, and those inside each function."""

    def __init__(self, path: Path, place: str) -> None:
        self.place = place
        self.tree = ast.parse(path.read_text())
        self.nodes = list(ast.walk(self.tree))
        self.makers: dict[str, Maker] = {}
        self.texts = self._named(self.tree.body, {})

    def _named(self, body: Iterable[ast.stmt], known: Texts) -> Texts:
        found: Texts = ChainMap({}, known)
        for node in body:
            if isinstance(node, ast.Assign) and (text := text_of(node.value, found)) is not None:
                found.update({target.id: text for target in node.targets if isinstance(target, ast.Name)})
        return found

    def calls(self) -> Iterator[tuple[ast.Call, Texts]]:
        """Yield every call, and the texts that have a name where it stands."""
        seen = set[ast.Call]()
        functions = [node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        # The innermost function is the one that is found last.
        for function in reversed(functions):
            inside = list(ast.walk(function))
            texts = self._named((node for node in inside if isinstance(node, ast.stmt)), self.texts)
            for node in inside:
                if isinstance(node, ast.Call) and node not in seen:
                    seen.add(node)
                    yield node, texts
        yield from ((node, self.texts) for node in self.nodes if isinstance(node, ast.Call) and node not in seen)


def text_of(value: ast.expr | None, texts: Texts) -> str | None:
    """Return a text as it is written, with "..." for its parts that are none; None when nothing of it is text."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part, texts) or ANYTHING for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            both = text_of(left, texts), text_of(right, texts)
            return None if both == (None, None) else "".join(part or ANYTHING for part in both)
        case ast.BoolOp(values=[*_, last]):
            return text_of(last, texts)
        case ast.Name(id=name):
            return texts.get(name)
        case ast.IfExp(body=body, orelse=other):
            return text_of(body, texts) or text_of(other, texts)
    return None


def rows(root: Path) -> list[Row]:
    """Return every refusal of the source, sorted."""
    modules = _modules(root)
    shared: Texts = {}
    for module in modules:
        shared.update({name: text for name, text in module.texts.items() if name.isupper()})
    for module in modules:
        module.texts = ChainMap(module.texts, shared)
    makers = _makers(modules)
    return sorted({row for module in modules for row in _rows_of(module, makers)})


def _modules(root: Path) -> list[_Module]:
    base = root / "src/keyquorum"
    places = {path: path.relative_to(base).with_suffix("").as_posix() for path in sorted(base.rglob("*.py"))}
    # The development chain refuses in the words of JSON-RPC.
    return [_Module(path, place) for path, place in places.items() if not place.startswith("chain/devchain")]


def _makers(modules: list[_Module]) -> dict[str, Maker]:
    classes = _classes(modules)
    makers = {
        ROOT_CLASS: Maker(ORDER, None),
        JSON_COMPLAINT: Maker(ORDER[:2], "send JSON of exactly the documented form"),
    }
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.FunctionDef) and (maker := _maker(module, node)):
                (module.makers if node.name.startswith("_") else makers)[node.name] = maker
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and _is_refusal(node, classes):
                init = next((one for one in node.body if getattr(one, "name", "") == "__init__"), None)
                hint = _usual_hint(module, node, init)
                makers[node.name] = Maker(ORDER, hint)
    return makers


def _classes(modules: list[_Module]) -> dict[str, ast.ClassDef]:
    return {node.name: node for module in modules for node in module.tree.body if isinstance(node, ast.ClassDef)}


def orders(root: Path) -> dict[str, tuple[str, ...]]:
    """Return, for each kind of refusal that is made in a way of its own, the first three things that it takes."""
    classes = _classes(_modules(root))
    found = dict[str, tuple[str, ...]]()
    for name, node in classes.items():
        init = next((one for one in node.body if getattr(one, "name", "") == "__init__"), None)
        if isinstance(init, ast.FunctionDef) and (name == ROOT_CLASS or _is_refusal(node, classes)):
            found[name] = tuple(one.arg for one in init.args.args[1:4])
    return found


def _maker(module: _Module, node: ast.FunctionDef) -> Maker | None:
    arguments = [one.arg for one in node.args.args if one.arg not in ("self", "cls")]
    if arguments[:2] != list(ORDER[:2]) or node.name == "__init__":
        return None
    if "hint" in arguments:
        return Maker(tuple(arguments), _default(module, node, "hint"))
    inner = [one for one in ast.walk(node) if isinstance(one, ast.Call) and len(one.args) > 2]
    return Maker(tuple(arguments), next((text for one in inner if (text := text_of(one.args[2], module.texts))), None))


def _default(module: _Module, node: ast.FunctionDef, name: str) -> str | None:
    arguments = node.args.args
    names = [one.arg for one in arguments][len(arguments) - len(node.args.defaults) :]
    given = dict(zip(names, node.args.defaults, strict=True))
    return text_of(given.get(name), module.texts)


def _is_refusal(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return ROOT_CLASS in bases or any(_is_refusal(classes[base], classes) for base in bases if base in classes)


def _usual_hint(module: _Module, node: ast.ClassDef, init: ast.stmt | None) -> str | None:
    for one in node.body:
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and one.targets[0].id == "usual_hint":
            return text_of(one.value, module.texts)
    if isinstance(init, ast.FunctionDef):
        own = next((text_of(one.value, module.texts) for one in ast.walk(init) if isinstance(one, ast.Assign)), None)
        return own or _default(module, init, "hint")
    return None


def _rows_of(module: _Module, makers: dict[str, Maker]) -> Iterator[Row]:
    for node, texts in module.calls():
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        maker = module.makers.get(name) or makers.get(name)
        if maker is None:
            continue
        given = dict(zip(maker.names, node.args, strict=False)) | {
            one.arg: one.value for one in node.keywords if one.arg
        }
        code, message = text_of(given.get("code"), texts), text_of(given.get("message"), texts)
        if not code or code == ANYTHING or not message or message == ANYTHING:
            continue  # it passes on what another said
        prefix = "json_" if name == JSON_COMPLAINT else ""
        yield Row(prefix + code, message, text_of(given.get("hint"), texts) or maker.hint or "", module.place)


def page(found: list[Row]) -> str:
    """Return the page."""
    lines = [f"| `{row.code}` | {_cell(row.message)} | {_cell(row.hint)} | {row.place} |" for row in found]
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    (ROOT / PAGE).write_text(page(rows(ROOT)))
    sys.exit(0)
