"""deploy/lab: the six hosts of the founding document on this machine's loopback addresses.

    __main__.py   starts command_line.py
    command_line.py   what each command does
    arguments.py  the arguments and their --help
    run.py        `up`: starts the chain, keeps the score, carries out requests
    chain.py      the hosts, the bridge and the devices
    verbs.py      kill, start, hang, resume: fails hosts and watches what follows
    words.py      the words of the command line
    score.py      published, delivered, in flight, on disk, lost, duplicated
    watch.py      collects the data for the view
    snapshot.py   ... as plain data
    draw.py       ... and as text of a terminal: the live view
    keys.py       the keys of the view, and the request of each
    screen.py     the view's thread: draws, reads keys, restores the terminal
    picture.py    the view as an SVG
    rounds.py     kills and hangs every host in turn, many times
    door.py       the socket for requests from a second terminal
    visitor.py    publish and consume, which need only the chain's ports

Threads: only the main thread starts and ends processes, when a request arrives through the door. Each request
has a thread that waits for the consequences and answers. `score` looks at the chain each second. `screen`
draws and reads keys.

The hosts are the harness's classes, which the tests use too: the lab shows what the tests test.
"""
