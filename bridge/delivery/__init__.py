"""Every decision about a message between its PUBLISH and its acknowledgement.

Decided here: whether a message is a copy of a known message (ledger.py), whether the bridge produces a
message now or lets it wait (lanes.py, held_lanes.py), when a message is written to disk (spooling.py,
rows.py, segment.py), when it becomes a dead letter, and when the bridge may acknowledge it.
A lane is one Kafka topic as the bridge sees it: whether the topic's messages may be produced, and in which
order they wait.
Not here: which Kafka topic a message gets (routing), what a Kafka error means (kafka/error_verdicts.py), and
all input and output.

Start with `pipeline.Pipeline`: the only place where a message is settled.
"""
