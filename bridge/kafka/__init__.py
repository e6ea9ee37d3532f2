"""The Kafka side: producers, delivery reports, and topics. The only room that knows librdkafka.

Decided here: what each Kafka error means for a message (error_verdicts.py), when a producer is replaced
(cluster.py), and what librdkafka is told (options.py).
Not here: which message is produced when, and what becomes of one that failed (delivery).

Start with `cluster.Cluster`.
"""
