"""The MQTT side: one session with the broker, one connection at a time. The only room that knows paho.

Decided here: when the bridge connects again and after which delay (session.py, backoff.py), which MQTT
version it speaks, and which filters it subscribes. PUBLISH packets bypass paho: tap.py takes them off
the byte stream, packet_codec.py decodes them, and the bridge sends its acknowledgements through the tap.
Not here: when a message may be acknowledged (delivery).

Start with `session.Session`.
"""
