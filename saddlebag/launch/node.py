"""The old form of `python -m saddlebag node`, for job files written before; it goes with the next release."""

import sys

from saddlebag.launch.cli import main

if __name__ == "__main__":
    main(["node", *sys.argv[1:]])
