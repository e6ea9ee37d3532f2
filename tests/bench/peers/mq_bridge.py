"""mq-bridge with a configuration file: python -m tests.bench.peers.mq_bridge FILE."""

import sys

from mq_bridge import Route

if __name__ == "__main__":
    Route.from_file(sys.argv[1]).run()
