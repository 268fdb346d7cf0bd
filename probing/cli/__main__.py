"""`python -m probing.cli`."""

from probing.cli import main

main()
