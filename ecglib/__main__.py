"""``python -m ecglib``."""

from ecglib.cli import main

main()
