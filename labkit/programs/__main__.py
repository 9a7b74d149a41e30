"""``python -m labkit.programs get``: fetch the programs before anything else works."""

from labkit.programs.command import main

if __name__ == "__main__":
    main()
