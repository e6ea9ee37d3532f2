"""The disk side: messages that Kafka has not confirmed in time, and dead letters. It alone knows SQLite.

Decided here: how much of the disk is used, what is done about a disk that fails, and which dead letters are
removed.
Not here: which messages are written, read and deleted (delivery).

spool.py             what the loop hands over      disk_thread.py   the thread that writes and reads
database_file.py     opened, reopened, set aside   store.py         commits, and what SQLite's errors mean
dead_letters.py, read_only.py                      for commands beside the service

Start with `spool.Spool`.
"""
