"""`python -m ortrim.compressor.cli`, for environments whose scripts are not on the path."""

from . import main

main()
