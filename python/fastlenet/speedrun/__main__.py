"""The door of python -m fastlenet.speedrun; the command itself is speedrun/protocol.py."""

import sys

from fastlenet.speedrun.protocol import main

if __name__ == "__main__":
    sys.exit(main())
