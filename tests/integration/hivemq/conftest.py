"""One HiveMQ for all tests of this directory."""

from collections.abc import Iterator

import pytest

from tests.harness.hivemq import HiveMQ
from tests.harness.host import Network


@pytest.fixture(scope="package")
def hivemq(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HiveMQ]:
    # On a busy machine the bridge falls behind; a queue overflow would fail the test without a defect.
    with HiveMQ(network, tmp_path_factory.mktemp("hivemq"), queued=10_000) as hivemq:
        yield hivemq


@pytest.fixture
def emq(hivemq: HiveMQ) -> HiveMQ:
    return hivemq
