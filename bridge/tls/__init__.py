"""TLS, as both sides of the bridge use it.

Decided here: which certificates are trusted and shown, which failures only a person can cure, and when an
expiry is logged.
Not here: when a connection is tried again (mqtt, kafka).

certificate.py  until when a certificate holds
context.py      certificates and key into a context
expiry.py       says in time that one expires
failures.py     why a handshake failed, and the way out

Start with `context.client_context`.
"""
