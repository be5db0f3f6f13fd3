"""The command `resnets VERB`: one file per verb, each a thin wrapper of a library function."""

from resnets.cli.app import main

__all__ = ["main"]
