"""Entry point of `python -m resnets`."""

import sys

from resnets.cli import main

if __name__ == "__main__":
    sys.exit(main())
