"""Draw docs/house.svg: the packages of `src/keyquorum` by floors, and what each imports, from `check_imports.py`.

Of an arrow that others lead to anyhow, nothing is drawn: what a room sees through another is no news.
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path

from check_imports import HOUSE

ROOT = Path(__file__).resolve().parent.parent
PICTURE = "docs/house.svg"
# Where each stands on its floor, in hundredths of the width: so that no arrow runs behind a room.
COLUMNS = {
    "cli": 62, "gateway": 40, "client": 18, "codes": 56, "node": 86, "auth": 24, "chain": 46, "intents": 24,
    "protocols": 72, "evm": 36, "rounds": 72, "formats": 26, "algebra": 62, "serving": 91,
}  # fmt: skip
WIDTH, BOX, HEIGHT, FLOOR, MARGIN = 1080, 150, 46, 104, 24
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif">\n'
    "<title>The packages of Keyquorum, each above those that it imports</title>\n"
    "<style>.room{{fill:#f6f8fa;stroke:#57606a}}.name{{font-weight:600;font-size:15px;fill:#1f2328}}"
    ".arrow{{stroke:#8c959f;fill:none}}@media(prefers-color-scheme:dark){{.room{{fill:#161b22}}.name{{fill:#e6edf3}}}}"
    "</style>\n"
)


def packages() -> dict[str, set[str]]:
    """Return, for each package, the packages that it may import."""
    return {name: {below.split(".")[0] for below in allowed} for name, allowed in HOUSE.items()}


def floors(house: dict[str, set[str]]) -> dict[str, int]:
    """Return on which floor each package is: one above the highest that it imports."""
    found: dict[str, int] = {}
    while len(found) < len(house):
        found |= {name: max((found[one] + 1 for one in below), default=0) for name, below in house.items()
                  if name not in found and below <= found.keys()}  # fmt: skip
    return found


def arrows(house: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the arrows that no other way stands for."""
    reached: dict[str, set[str]] = {}
    for name in sorted(house, key=floors(house).__getitem__):
        reached[name] = house[name].union(*(reached[one] for one in house[name]))
    return {
        (name, one)
        for name, below in house.items()
        for one in below
        if not any(one in reached[other] for other in below)
    }


def purpose(name: str) -> str:
    """Return the first sentence of what a package says of itself."""
    text = ast.get_docstring(ast.parse((ROOT / "src/keyquorum" / name / "__init__.py").read_text())) or ""
    return text.split("\n")[0].rstrip(".")


def draw() -> str:
    """Return the picture as SVG."""
    house = packages()
    floor = floors(house)
    rows = [sorted(name for name in house if floor[name] == number) for number in range(max(floor.values()) + 1)]
    height = len(rows) * FLOOR + 2 * MARGIN - (FLOOR - HEIGHT)
    at = {
        name: (COLUMNS[name] * WIDTH // 100, height - MARGIN - HEIGHT - number * FLOOR)
        for number, row in enumerate(rows)
        for name in row
    }
    parts = [HEAD.format(width=WIDTH, height=height)]
    for upper, lower in sorted(arrows(house)):
        (x, y), (to_x, to_y) = at[upper], at[lower]
        middle = (y + HEIGHT + to_y) // 2
        curve = f"M{x} {y + HEIGHT} C{x} {middle} {to_x} {middle} {to_x} {to_y}"
        parts.append(f'<path class="arrow" d="{curve}"/>\n')
    for name, (x, y) in sorted(at.items()):
        parts.append(
            f"<g><title>{escape(purpose(name))}</title>"
            f'<rect class="room" x="{x - BOX // 2}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="6"/>'
            f'<text class="name" x="{x}" y="{y + 29}" text-anchor="middle">{name}</text></g>\n'
        )
    return "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    (ROOT / PICTURE).write_text(draw())
