"""One Kafka broker with access rules: fixtures for tests of a user that has no rights at first."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.harness.host import Network
from tests.harness.kafka import SASL_SSL, KafkaCluster, Secured
from tests.harness.kit import ROOT

ALONE = Network("127.30.4")
KAFKA_PASSWORD = "kafka-geheim-0815"
# Its own broker is a super user, and others need an ACL. It would create a topic that a client asks for.
_STRICT = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
auto.create.topics.enable=true
"""


@pytest.fixture(scope="module")
def certificates_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("alone") / "tls"
    hosts = [f"kafka1={ALONE.kafka[0].address}", "bridge"]
    subprocess.run([ROOT / "deploy" / "make-certificates", directory, *hosts], check=True)
    return directory


@pytest.fixture(scope="module")
def alone(certificates_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    secured = Secured(certificates_alone, "bridge", KAFKA_PASSWORD)
    directory = tmp_path_factory.mktemp("kafka-alone")
    with KafkaCluster(ALONE, directory, nodes=1, secured=secured, properties=_STRICT) as cluster:
        yield cluster


@pytest.fixture
def as_user(alone: KafkaCluster, certificates_alone: Path, tmp_path: Path) -> dict[str, Any]:
    """The [kafka] settings of a user that has no rights at first."""
    password = tmp_path / "password"
    password.write_text(KAFKA_PASSWORD)
    password.chmod(0o600)
    return {
        "bootstrap_servers": alone.bootstrap_at(SASL_SSL),
        "password_file": str(password),
        "options": {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "bridge",
            "ssl.ca.location": str(certificates_alone / "bridge" / "ca.crt"),
        },
    }


def allow(
    kafka: KafkaCluster, topic: str, operation: AclOperation, kind: ResourceType = ResourceType.TOPIC
) -> None:
    """Give the user a right on a topic, or on another resource of this name."""
    rule = AclBinding(
        kind,
        topic,
        ResourcePatternType.LITERAL,
        "User:bridge",
        "*",
        operation,
        AclPermissionType.ALLOW,
    )
    for future in kafka.admin.create_acls([rule]).values():
        future.result(timeout=15.0)


def grant(kafka: KafkaCluster, said: str) -> str:
    """Run the command that `said` names, by Kafka's own tool. Returns what that says."""
    (arguments,) = re.findall(r"kafka-acls\.sh (?:\.\.\. |--bootstrap-server \S+ )?(--add .*)", said)
    return kafka.tool("AclCommand", *arguments.replace("NAME", "bridge").split())
