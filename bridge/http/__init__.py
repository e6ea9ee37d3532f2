"""The page and what programs ask: reads the loop's last snapshot and nothing else.

Decided here: which requests are answered and how (site.py), how many and how fast (budget.py, connection.py),
and when the address is tried again (server.py). The page itself is page/: HTML, CSS and JavaScript as they
are served.
Not here: what a snapshot holds and what it means (status).

Everything runs in one thread of its own. A slow, hostile or broken client costs the message path nothing but
that thread's share of the processor, which is bounded.

Start with `server.Server`.
"""
