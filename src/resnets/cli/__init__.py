"""The command `resnets VERB`: one file per verb, each a thin wrapper of a library function.

Start with `app`, the entry point; `output` prints tables and JSON, `help` lays out the help pages.
"""

from resnets.cli.app import main

__all__ = ["main"]
