"""`python -m raylab`: the command, where no script of it is on the PATH."""

from raylab.cli import main

if __name__ == "__main__":
    main()
