"""A process that drains a spool through Kafka transactions, and kills itself before or after a named step.

    python -m tests.harness.killed_drain BOOTSTRAP DIRECTORY ID WHEN STEP TIMES

WHEN is "before" or "after"; the process ends at the step's TIMES-th time. STEPS has the names.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from bridge.kafka import transactional_producer, transactions
from bridge.spool.store import Store
from tests.harness.drain import Drain

# Of a transaction in order, then the disk's part.
STEPS = (
    "init_transactions",
    "begin_transaction",
    "flush",
    "send_offsets_to_transaction",
    "commit_transaction",
    "settle",
    "intend",
    "confirm",
)


class Death:
    """Kills this process at a step's time."""

    def __init__(self, when: str, step: str, times: int) -> None:
        self._when, self._step, self._left = when, step, times

    def around(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            is_it = step == self._step and self._left == 1
            if step == self._step:
                self._left -= 1
            if is_it and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            found = call(*arguments, **named)
            if is_it and self._when == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return called


def main(bootstrap: str, directory: str, name: str, when: str, step: str, times: str) -> None:
    death = Death(when, step, int(times))

    class Mortal(Producer):
        pass

    for each in STEPS[:5]:
        setattr(Mortal, each, death.around(each, getattr(Producer, each)))
    write, settle = Store.write, Store.settle

    def mortal_write(store: Store, *arguments: Any, **named: Any) -> None:
        step = "intend" if named.get("intent") else "confirm" if named.get("confirmed") else ""
        death.around(step, write)(store, *arguments, **named)

    replaced: Any = Store
    replaced.write, replaced.settle = mortal_write, death.around("settle", settle)
    producers: Any = transactional_producer
    producers.RdProducer = Mortal
    transactions.MOST_MESSAGES = 25
    with Drain(bootstrap, Path(directory), name) as drain:
        drain.until(lambda: drain.is_done, 60, "the process is killed, or has drained all")


if __name__ == "__main__":
    main(*sys.argv[1:])
