"""One ejabberd pair for all tests of this directory."""

from collections.abc import Iterator

import pytest

from tests.harness.ejabberd import EjabberdPair
from tests.harness.host import Network


@pytest.fixture(scope="package")
def pair(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EjabberdPair]:
    # On a busy machine messages queue behind the one in flight; ejabberd ends a session whose queue is full.
    with EjabberdPair(network, tmp_path_factory.mktemp("ejabberd"), queued=10_000) as pair:
        yield pair


@pytest.fixture
def emq(pair: EjabberdPair) -> EjabberdPair:
    return pair
