"""``python -m attnbuild``."""

import sys

from attnbuild.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
