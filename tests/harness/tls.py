"""A TLS proxy in front of a broker, and its certificates. The keys exist only during the test."""

import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from string import Template

from tests.harness.process import Process

_DOOR = Template("""\
global
    nbthread 1
defaults
    mode tcp
    retries 0
    timeout connect 3s
    timeout client 1h
    timeout server 1h
listen mqtts
    bind ${address}:${port} ssl crt ${certificate} ${client}
    server broker ${broker}
""")


@dataclass(frozen=True)
class Certificate:
    """A certificate, signed by `authority` or by itself. `pem` holds certificate and key."""

    pem: Path
    certificate: Path
    key: Path


class Authority:
    """Signs certificates for one test."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._own = self._files(name)
        _openssl("req", "-x509", *_key(self._own, name), "-days", "2", "-out", self._own.certificate)
        self.certificate = self._own.certificate

    def sign(self, name: str, *, address: str | None = None, days: int = 2) -> Certificate:
        """Sign a certificate for this name and IP address. With `days` -1 it expired a day ago."""
        made, request = self._files(name), self._directory / f"{name}.csr"
        names = self._directory / f"{name}.names"
        names.write_text(f"subjectAltName=DNS:{name}{f',IP:{address}' if address else ''}")
        _openssl("req", "-new", *_key(made, name), "-out", request)
        issuer = ("-CA", self._own.certificate, "-CAkey", self._own.key, "-extfile", names)
        _openssl("x509", "-req", "-in", request, *issuer, "-days", str(days), "-out", made.certificate)
        made.pem.write_text(made.certificate.read_text() + made.key.read_text())
        return made

    def _files(self, name: str) -> Certificate:
        return Certificate(*(self._directory / f"{name}.{end}" for end in ("pem", "crt", "key")))


def _key(made: Certificate, name: str) -> tuple[str | Path, ...]:
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    return (*new, "-keyout", made.key, "-subj", f"/CN={name}")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class TlsDoor(Process):
    """HAProxy that terminates TLS for `broker`. With `clients_of`, clients need a certificate it signed."""

    def __init__(
        self,
        broker: tuple[str, int],
        certificate: Certificate,
        directory: Path,
        *,
        clients_of: Authority | None = None,
    ) -> None:
        self.address = "127.0.0.1"
        with socket.create_server((self.address, 0)) as probe:
            self.port: int = probe.getsockname()[1]
        configuration = directory / f"tls-door-{self.port}.cfg"
        client = f"verify required ca-file {clients_of.certificate}" if clients_of else ""
        configuration.write_text(
            _DOOR.substitute(
                address=self.address,
                port=self.port,
                certificate=certificate.pem,
                client=client,
                broker=f"{broker[0]}:{broker[1]}",
            )
        )
        super().__init__(
            "tls-door",
            ["haproxy", "-db", "-f", configuration],
            log=directory / "tls-door.log",
            ready=self._listens,
        )

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0
