"""The disk side: messages that Kafka has not confirmed in time, and dead letters. It alone knows SQLite.

Decided here: how much of the disk the bridge uses, how it handles a disk that fails, and which dead letters
it removes.
Not here: which messages are written, read and deleted (delivery).

    spool.py                       collects the loop's work for the disk thread
    disk_thread.py                 the thread that writes and reads
    database_file.py               opens and reopens the database file; sets a damaged file aside
    store.py                       commits, and the meaning of SQLite's errors
    intents.py, journal_table.py   what only the mode exactly-once has in the database
    unused_space.py                gives space back to the file system
    reserve.py                     bytes that are kept back, to empty a full disk with
    dead_letters.py, read_only.py  for commands that run beside the service

Start with `spool.Spool`.
"""
