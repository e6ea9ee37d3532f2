"""TLS, as both sides of the bridge use it: what is trusted and shown, and what is said when it fails.

context.py      certificates and key into a context
failures.py     why a handshake failed, and the way out
"""
