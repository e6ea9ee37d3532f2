"""Decides a message's Kafka topic, key, headers and value, and which filters the bridge subscribes for that.

Decided here: which filters match, cover and overlap (topics.py for two, filter_tree.py for many), what a
[[routes]] entry means (routes.py), which route takes a message (router.py), and what becomes of the messages
of one MQTT topic (plan.py). Pure: no input or output.
Not here: whether the broker granted a subscription (mqtt), whether the Kafka topic exists (kafka).

Start with `router.Router`.
"""
