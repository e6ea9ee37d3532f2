"""Asks HAProxy and EMQX what one machine can't see: which EMQ nodes are up, how many messages wait at EMQX.

Decided here: how often a neighbour is asked, how long an answer may take and how large it may be
(answer.py), what an answer means (haproxy_stats.py, emqx_session.py), and when a neighbour that does not
answer is logged.
Not here: what the answers mean to a person (status/diagnosis.py). No message waits for a neighbour.

Start with `neighbours.Neighbours`.
"""
