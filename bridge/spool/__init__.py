"""What Kafka has not confirmed in time, and what it can never take, on this machine's disk.

store.py    the SQLite database: tables, commits, what a file's state means
disk.py     how much may be used, and how long the disk takes
job.py      what the thread is given at once
spool.py    the thread that writes and reads, and what is done when it can't
"""
