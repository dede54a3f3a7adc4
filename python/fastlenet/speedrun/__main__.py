"""Runs python -m fastlenet.speedrun; the command is in speedrun/protocol.py."""

import sys

from fastlenet.speedrun.protocol import main

if __name__ == "__main__":
    sys.exit(main())
