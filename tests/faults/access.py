"""A second listener of Kafka, on which a user needs rights; grants and denies these rights."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

_PORT = 9096
_USER, _PASSWORD = "bridge", "sesame"

# Clients of the first listener may do everything, as without an authorizer.
PROPERTIES = f"""
listeners=PLAINTEXT://${{address}}:9092,SASL_PLAINTEXT://${{address}}:{_PORT},CONTROLLER://${{address}}:9093
advertised.listeners=PLAINTEXT://${{address}}:9092,SASL_PLAINTEXT://${{address}}:{_PORT}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \\
    required user_{_USER}="{_PASSWORD}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


def as_user(bootstrap: str, directory: Path) -> dict[str, Any]:
    """The [kafka] settings with which the bridge uses that listener."""
    password = directory / "kafka-password"
    password.write_text(_PASSWORD)
    password.chmod(0o600)
    return {
        "bootstrap_servers": bootstrap.replace(":9092", f":{_PORT}"),
        "password_file": str(password),
        "options": {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": _USER,
        },
    }


def grant(admin: AdminClient, topic: str) -> None:
    """Allow the user to produce to this topic."""
    for operation in (AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS):
        _create(admin, topic, operation, AclPermissionType.ALLOW)


def grant_transactions(admin: AdminClient, name: str, topics: Iterable[str]) -> None:
    """Allow the user transactions with this id, and the group that goes with it in these topics."""
    for operation in (AclOperation.WRITE, AclOperation.DESCRIBE):
        _create(admin, name, operation, AclPermissionType.ALLOW, ResourceType.TRANSACTIONAL_ID)
    group = f"{name}-transactions"
    _create(admin, group, AclOperation.READ, AclPermissionType.ALLOW, ResourceType.GROUP)
    for topic in topics:
        _create(admin, topic, AclOperation.READ, AclPermissionType.ALLOW)


@contextlib.contextmanager
def forbidden(admin: AdminClient, topic: str) -> Iterator[None]:
    """Inside the block the user may not write to this topic."""
    _create(admin, topic, AclOperation.WRITE, AclPermissionType.DENY)
    try:
        yield
    finally:
        denials = AclBindingFilter(*_terms(topic, AclOperation.WRITE, AclPermissionType.DENY))
        for done in admin.delete_acls([denials]).values():
            done.result(timeout=20.0)


def _create(
    admin: AdminClient,
    name: str,
    operation: AclOperation,
    permission: AclPermissionType,
    kind: ResourceType = ResourceType.TOPIC,
) -> None:
    for done in admin.create_acls([AclBinding(*_terms(name, operation, permission, kind))]).values():
        done.result(timeout=20.0)


def _terms(
    name: str,
    operation: AclOperation,
    permission: AclPermissionType,
    kind: ResourceType = ResourceType.TOPIC,
) -> tuple[Any, ...]:
    return (
        kind,
        name,
        ResourcePatternType.LITERAL,
        f"User:{_USER}",
        "*",
        operation,
        permission,
    )
