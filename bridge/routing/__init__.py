"""Decides a message's Kafka topic, key, headers and value, and which filters the bridge subscribes for that.

Decided here: which filters match, cover and overlap (topics.py), what a [[routes]] entry means (routes.py),
which route takes a message (router.py). Pure: no input or output.
Not here: whether the broker granted a subscription (mqtt), whether the Kafka topic exists (kafka).

Start with `router.Router`.
"""
