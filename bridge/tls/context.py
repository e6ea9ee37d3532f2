"""Certificates and key into an SSLContext, made anew whenever they are needed: files may have changed."""

import ssl
from pathlib import Path

from bridge.tls.failures import TlsFailed

_ENCRYPTED = "the key is encrypted", "keep one without a passphrase: openssl pkey -in FILE -out NEW"


def client_context(
    ca_file: Path | None, cert_file: Path | None, key_file: Path | None, *, password: str | None = None
) -> ssl.SSLContext:
    """Verifies the peer's certificate and its name. Without `ca_file` the system's authorities count.

    Raises TlsFailed, which names the file that is of no use.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise _unusable(ca_file, error, "no certificate in PEM is in it") from None
    # Python 3.13 wants more of an authority than RFC 5280's peers do; a newer Debian must cut nobody off.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", ssl.VerifyFlags(0))
    if cert_file:
        _load(context, cert_file, key_file, password)
    return context


def _load(context: ssl.SSLContext, cert_file: Path, key_file: Path | None, password: str | None) -> None:
    def ask() -> str:  # without this OpenSSL would ask the terminal
        if password is None:
            raise TlsFailed(f"cannot use {key_file or cert_file}: {_ENCRYPTED[0]}", _ENCRYPTED[1])
        return password

    for path in (cert_file, key_file or cert_file):
        try:
            path.open("rb").close()  # OpenSSL would not say which of the two it means
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
            wrong = "it must hold a certificate in PEM, and its key where no other file does"
        raise _unusable(cert_file, error, wrong) from None


def _unusable(path: Path | None, error: OSError, wrong: str = "") -> TlsFailed:
    if isinstance(error, ssl.SSLError):
        return TlsFailed(
            f"cannot use {path}: {wrong}", "put the right file there; it is read at every attempt"
        )
    said = (error.strerror or str(error)).lower()
    return TlsFailed(f"cannot read {path}: {said}", "let the bridge's user read it, or correct the path")
