"""MkDocs hooks: add the pages that are made from other files of the repository.

- README.md, CONTRIBUTING.md, CHANGELOG.md and SECURITY.md become pages of the site; links are rewritten.
- The command line reference is made from `resnets VERB --help`, the list of training options from
  `resnets recipes --options`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
EXAMPLES = {"models": ("models", "resnext*"), "info": ("info", "resnet18", "--img-size", "352")}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the files of the site."""
    from mkdocs.structure.files import File

    pages = {page: root_page((ROOT / name).read_text(encoding="utf-8")) for name, page in ROOT_PAGES.items()}
    pages["index.md"] = "---\nhide: [navigation]\n---\n" + pages["index.md"]
    pages |= {"reference/cli.md": cli_page(), "reference/options.md": options_page()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "LICENSE.txt", content=(ROOT / "LICENSE").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Rewrite links from a page in docs/ to a file in the root."""
    for name, page in ROOT_PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Fail if a page would load a script, style sheet, font or image from another host."""
    loads = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?https?://[^"' >]+""")
    for page in Path(config.site_dir).rglob("*.html"):
        if found := loads.search(page.read_text(encoding="utf-8")):
            raise RuntimeError(f"the site must not load from other hosts; {page} has {found[0]}")


def root_page(text: str) -> str:
    """The Markdown of a file in the repository's root, with its links as they are in the site."""
    for name, page in ROOT_PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return re.sub(r"\]\(docs/", "](", text).replace("](LICENSE)", "](LICENSE.txt)")


def cli_page() -> str:
    """The help of the command and of each of its verbs."""
    from resnets.cli.app import VERBS

    parts = ["# Command line", "Results go to stdout, messages to stderr. Exit codes: 0; 1 for an error; 2 for usage."]
    for words in ([], *([verb] for verb in VERBS), ["data", "pack"], ["data", "check"]):
        parts += [f"## {' '.join(['resnets', *words])}", output(*words, "--help")]
        parts += ["Example:", output(*EXAMPLES[words[0]], shown=True)] if words and words[0] in EXAMPLES else []
    return "\n\n".join(parts)


def output(*words: str, shown: bool = False) -> str:
    """A fenced block with the output of `resnets WORDS`, after the command itself if it is `shown`."""
    command = f"$ resnets {shlex.join(words)}\n" if shown else ""
    return f"```text\n{command}{run_command(*words).rstrip()}\n```"


def options_page() -> str:
    """A table of every training option, by group."""
    parts = [
        "# Training options",
        "Pass an option as a keyword of [`resnets.train`](training.md), in a recipe file, or as `--set NAME=VALUE`. "
        "The bare name is enough: `--set lr=0.05` sets `optim.lr`.",
    ]
    groups: dict[str, list[str]] = {}
    for option in json.loads(run_command("recipes", "--options", "--json")):
        default = f"`{option['default']}`" if option["default"] else "required"
        cells = [f"`{option['name']}`", default, option["text"]]
        row = " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
        groups.setdefault(option["group"], []).append(f"| {row} |")
    for group, rows in groups.items():
        head = "| option | default | description |\n|---|---|---|"
        parts += [f"## {group or 'General'}", "\n".join([head, *rows])]
    return "\n\n".join(parts)


def run_command(*words: str) -> str:
    """What `resnets WORDS` prints, in 80 columns."""
    from resnets.cli import main

    with mock.patch.dict(os.environ, COLUMNS="80"), contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words)
    if code != 0:
        raise RuntimeError(f"resnets {' '.join(words)} must succeed; got exit code {code}")
    return out.getvalue()
