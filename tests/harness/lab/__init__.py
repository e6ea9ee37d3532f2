"""deploy/lab: the six hosts of the founding document on this machine's loopback addresses.

    __main__.py   the command line
    run.py        up: starts the chain, keeps score, does what a key or a second terminal asks
    chain.py      the hosts, the bridge, the devices, and what each can be made to do
    verbs.py      kill, start, hang, resume: does it and watches what follows
    score.py      published, delivered, in flight, lost, doubled
    watch.py      what is to be seen of all that
    snapshot.py   ... as plain data
    draw.py       ... and as text of a terminal: the live view
    keys.py       the view's keys, and what each asks for
    screen.py     the view's thread: draws, reads keys, leaves the terminal as it was
    picture.py    the view as an SVG
    rounds.py     the same verbs in turn, many times
    door.py       the socket by which a second terminal asks
    visitor.py    publish and consume, which need nothing but the chain's ports

The threads: the main one alone starts and ends processes, when a request comes through the door; each request
has one that waits for what follows and answers; `score` looks at the chain each second; `screen` draws and
reads keys.

The actors are the harness's, which the tests run too: what is shown here is what is tested there.
"""
