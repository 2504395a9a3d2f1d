"""`python -m wildreward` is the `wildreward` command."""

from wildreward.cli import run

run()
