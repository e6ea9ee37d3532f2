"""The command line: `bridge` as a service, and its other commands.

Decided here: which commands and flags exist (arguments.py), what each command prints, and the exit status.
Not here: what a setting allows (settings), what happens to a message (delivery).

Start with `cli.main`.
"""
