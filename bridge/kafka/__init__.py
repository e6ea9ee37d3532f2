"""The Kafka side: producers, delivery reports, and topics. The only room that knows librdkafka.

Decided here: what each Kafka error means for a message (error_verdicts.py), when a producer is replaced
(cluster.py), what goes into a transaction (transactions.py), and which options librdkafka gets (options.py).
Not here: when a message is produced, and what happens to a message that failed (delivery).

Start with `cluster.Cluster`; with delivery exactly-once transactional_cluster.py takes its place.
"""
