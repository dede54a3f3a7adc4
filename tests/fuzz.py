"""The differential fuzzer of the ops: `python tests/fuzz.py --help`."""

import sys

from helpers.fuzz.runner import main

if __name__ == "__main__":
    sys.exit(main())
