"""What Kafka has not confirmed in time, and what it can never take, on this machine's disk.

schema.py   whose database a file is, and the tables in it
store.py    the database: commits, and what its errors mean
disk.py     how much may be used, and how long the disk takes
file.py     the file: opened, opened anew, set aside
job.py      what the thread is given at once
spool.py    the thread that writes and reads, and what is done when it can't
"""
