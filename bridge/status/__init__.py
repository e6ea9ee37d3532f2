"""What the running service knows of itself and of its neighbours.

Decided here: what a snapshot holds. Only the neighbours' part of it is filled yet, and nothing shows it.
Not here: who asks the neighbours (neighbours), and what is done about a fault (each room).

Start with `snapshot.Snapshot`.
"""
