"""`python -m saddlebag`, and `torchrun ... -m saddlebag node ...`: the command line."""

from saddlebag.launch.cli import main

if __name__ == "__main__":
    main()
