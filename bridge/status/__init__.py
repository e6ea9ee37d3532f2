"""What the running service knows of itself and of its neighbours, and what that means to a person.

Decided here: what a snapshot holds (snapshot.py), and which one sentence, whose fault and what remedy follow
from it (diagnosis.py).
Not here: how a snapshot is shown (http/, commands/top.py), and what is done about a fault (each room).

Start with `snapshot.Snapshot`.
"""
