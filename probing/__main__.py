"""The command `probing`, and `python -m probing`."""

import sys


def main() -> None:
    """Run the command line; what it needs is imported here, where Ctrl-C is met in words."""
    try:
        from probing.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
