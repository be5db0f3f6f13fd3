"""Check that a release is ready: version, changelog and citation agree, and nothing is uncommitted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def problems(version: str, changelog: str, citation: str, uncommitted: str, tags: str) -> list[str]:
    """What must be corrected before a release, one line each.

    Args:
        version: the version of the package.
        changelog, citation: text of CHANGELOG.md and CITATION.cff.
        uncommitted: output of `git status --porcelain`.
        tags: output of `git tag`.
    """
    found = []
    heading = re.search(rf"^## \[{re.escape(version)}\] - (\d{{4}}-\d{{2}}-\d{{2}})$", changelog, re.MULTILINE)
    newest = re.search(r"^## .*$", changelog, re.MULTILINE)
    if heading is None or newest is None or newest[0] != heading[0]:
        got = newest[0] if newest else "no section"
        found.append(f"CHANGELOG.md must begin with '## [{version}] - YYYY-MM-DD'; got {got!r}")
    if not re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE):
        found.append(f"CITATION.cff must have 'version: {version}'")
    if heading and not re.search(rf"^date-released: {heading[1]}$", citation, re.MULTILINE):
        found.append(f"CITATION.cff must have 'date-released: {heading[1]}'")
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        found.append(f"the version must be a release such as 1.2.3 or 1.2.3rc1; got {version}")
    if uncommitted.strip():
        found.append(f"all changes must be committed; git status lists\n{uncommitted.rstrip()}")
    if f"v{version}" in tags.split():
        found.append(f"the tag v{version} exists; set a new version in src/resnets/version.py")
    return found


def main() -> int:
    from resnets.version import __version__

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    changelog, citation = (ROOT / name for name in ("CHANGELOG.md", "CITATION.cff"))
    found = problems(
        __version__,
        changelog.read_text(encoding="utf-8"),
        citation.read_text(encoding="utf-8"),
        git("status", "--porcelain"),
        git("tag"),
    )
    print(
        "\n".join([f"{__version__} is not ready:", *found] if found else [f"{__version__} is ready"]), file=sys.stderr
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
