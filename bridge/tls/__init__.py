"""TLS, as both sides of the bridge use it: what is trusted and shown, and what is said when it fails.

certificate.py  until when a certificate holds
context.py      certificates and key into a context
expiry.py       says in time that one expires
failures.py     why a handshake failed, and the way out
"""
