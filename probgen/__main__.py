"""``python -m probgen``: the command line."""

import sys

from probgen.cli import main

if __name__ == "__main__":
    sys.exit(main())
