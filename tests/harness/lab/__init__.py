"""deploy/lab: the six hosts of the founding document on this machine's loopback addresses.

    __main__.py   the command line
    run.py        up: starts the chain, keeps score, does what a second terminal asks
    chain.py      the hosts, the bridge, the devices, and what each can be made to do
    verbs.py      kill, start, hang, resume: does it and watches what follows
    score.py      published, delivered, in flight, lost, doubled
    rounds.py     the same verbs in turn, many times
    door.py       the socket by which a second terminal asks
    visitor.py    publish and consume, which need nothing but the chain's ports

The actors are the harness's, which the tests run too: what is shown here is what is tested there.
"""
