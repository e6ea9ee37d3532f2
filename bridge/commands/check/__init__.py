"""`bridge check`, the doctor: examines the chain and this machine, and changes nothing.

Start with `table.py`, which lists all checks. `doctor.py` runs them and prints the outcomes. Each of the
other modules holds the checks of one group.
"""
