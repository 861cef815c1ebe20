"""`python -m videoclr` is `videoclr`."""

from __future__ import annotations

import sys

from videoclr.cli import main

if __name__ == "__main__":
    sys.exit(main())
