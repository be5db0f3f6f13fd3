"""`python -m resnets`, the same as the command `resnets`."""

import sys

from resnets.cli import main

if __name__ == "__main__":
    sys.exit(main())
