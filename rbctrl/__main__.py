"""`python -m rbctrl` is `rbctrl`."""

import sys

from rbctrl.cli import main

if __name__ == "__main__":
    sys.exit(main())
