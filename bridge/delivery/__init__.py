"""What is decided about a message between its PUBLISH and its acknowledgement.

Decided here: whether it is a copy of a known message (ledger.py), whether it is produced now or waits
(lanes.py, held_lanes.py), when it goes to disk (spooling.py, rows.py, segment.py), when it becomes a dead
letter, and when it may be acknowledged. A lane is one Kafka topic as the bridge sees it: whether its
messages may be produced, and in which order they wait.
Not here: which Kafka topic a message gets (routing), what a Kafka error means (kafka/error_verdicts.py), and
all input and output.

Start with `pipeline.Pipeline`: the only place where a message is settled.
"""
