"""Loads certificates and key into an SSLContext. Each connection loads them anew: a file may have changed."""

import ssl
from pathlib import Path

from bridge.tls.failures import TlsFailed

_ENCRYPTED = "the key is encrypted", "use a key without a passphrase: openssl pkey -in FILE -out NEW"


def client_context(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None, *, password: str | None = None
) -> ssl.SSLContext:
    """Return a context that verifies the peer's certificate and name.

    Without `ca_file` the context trusts the system's authorities. Raises TlsFailed, which names an unusable
    file.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise _unusable(ca_file, error, "the file holds no certificate in PEM") from None
    # From Python 3.13 on this flag refuses authorities that older versions accept. An upgrade of Debian must
    # not break a connection that works.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", ssl.VerifyFlags(0))
    if cert_file:
        _load(context, cert_file, key_file, password)
    return context


def server_context(cert_file: Path, key_file: Path | None) -> ssl.SSLContext:
    """Return a context that shows this certificate. Raises TlsFailed, which names an unusable file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, cert_file, key_file, None)
    return context


def _load(context: ssl.SSLContext, cert_file: Path, key_file: Path | None, password: str | None) -> None:
    def ask() -> str:  # without this callback OpenSSL would ask at the terminal
        if password is None:
            raise TlsFailed(f"cannot use {key_file or cert_file}: {_ENCRYPTED[0]}", _ENCRYPTED[1])
        return password

    for path in (cert_file, key_file or cert_file):
        try:
            path.open("rb").close()  # OpenSSL's error does not say which of the two files it means
        except OSError as error:
            raise _unusable(path, error) from None
    try:
        context.load_cert_chain(cert_file, key_file, ask)
    except TlsFailed:
        raise
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            wrong = f"the key in {key_file or cert_file} is not that of the certificate"
        else:
            wrong = "the file must hold a certificate in PEM, and its key unless another file holds the key"
        raise _unusable(cert_file, error, wrong) from None


def _unusable(path: Path | None, error: OSError, wrong: str = "") -> TlsFailed:
    if isinstance(error, ssl.SSLError):
        return TlsFailed(
            f"cannot use {path}: {wrong}", "put the right file there; the bridge reads it at every attempt"
        )
    detail = (error.strerror or str(error)).lower()
    return TlsFailed(
        f"cannot read {path}: {detail}", "let the bridge's user read the file, or correct the path"
    )
