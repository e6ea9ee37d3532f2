"""What a person types: `bridge` as a service, and the commands beside it.

Decided here: which words and flags there are (arguments.py), what each command prints, and the exit status.
Not here: what a setting allows (settings), what becomes of a message (delivery).

Start with `cli.main`.
"""
