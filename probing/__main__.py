"""`python -m probing`."""

from probing.cli import main

main()
