"""TLS, as both sides of the bridge use it.

Decided here: which certificates are trusted and shown, which failures only a person can cure, and when the
bridge logs that a certificate expires.
Not here: when a connection is tried again (mqtt, kafka).

certificate.py  until when a certificate is valid
context.py      loads certificates and key into an SSLContext
expiry.py       logs in time that a certificate expires
failures.py     why a handshake failed, and the way out

Start with `context.client_context`.
"""
