"""Compare the numbered steps of spec/<name>.md with the step comments of src/keyquorum/protocols/<name>.py.

A step of a page is a line that starts with `**2.1**`; in the code it is a comment that starts with the number:
`# 2.1`, or `# 3.1, 3.2: why`. Both sets must be equal, and each page with steps needs its file and the other way round.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_IN_PAGE = re.compile(r"^\*\*(\d+\.\d+)\*\* ", re.MULTILINE)
_IN_CODE = re.compile(r"^# (\d+\.\d+(?:, \d+\.\d+)*)(?::|$)")


def steps_of_page(text: str) -> list[str]:
    """Return the steps of a spec page, in order."""
    return _IN_PAGE.findall(text)


def steps_of_code(text: str) -> set[str]:
    """Return the steps that comments of Python source name."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    matches = (_IN_CODE.match(token.string) for token in tokens if token.type == tokenize.COMMENT)
    return {step for match in matches if match for step in match[1].split(", ")}


def differences(root: Path) -> list[str]:
    """Return one line for each step that is on one side only, or twice on a page."""
    pages = {path.stem: steps_of_page(path.read_text()) for path in sorted((root / "spec").glob("*.md"))}
    files = sorted((root / "src/keyquorum/protocols").glob("*.py"))
    code = {path.stem: steps_of_code(path.read_text()) for path in files}
    problems = []
    for name in sorted(pages.keys() | code.keys()):
        page, file = pages.get(name, []), code.get(name, set())
        problems += [f"spec/{name}.md has step {s} twice" for s in sorted({s for s in page if page.count(s) > 1})]
        problems += [f"spec/{name}.md step {s} is not in protocols/{name}.py" for s in sorted(set(page) - file)]
        problems += [f"protocols/{name}.py step {s} is not in spec/{name}.md" for s in sorted(file - set(page))]
    return problems


if __name__ == "__main__":
    found = differences(ROOT)
    print("\n".join(found) or "spec and code have the same steps")
    sys.exit(bool(found))
