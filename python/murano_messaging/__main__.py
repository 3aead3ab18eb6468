"""``python -m murano_messaging``: the command line, which is also installed as ``murano-messaging``."""

from __future__ import annotations

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
