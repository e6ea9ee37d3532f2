"""Explains why TLS failed, in a sentence, and names the way out.

Python's ssl and librdkafka both pass on OpenSSL's words, in two spellings: CERTIFICATE_VERIFY_FAILED and
"certificate verify failed". A peer sends its objection as an alert (RFC 8446, 6.2). With TLS 1.3 the alert
arrives after the handshake, as the answer to the first bytes.
"""

import ssl
from dataclasses import dataclass


class TlsFailed(OSError):
    """A TLS failure that only a person can cure. `way_out` says how."""

    def __init__(self, reason: str, way_out: str) -> None:
        self.reason = reason
        self.way_out = way_out
        super().__init__(reason)

    @property
    def sentence(self) -> str:
        return f"{self.reason} ({self.way_out})"


@dataclass(frozen=True)
class Names:
    """The peer's address and the names of the settings, for the texts of `explain`."""

    peer: str  # "172.30.1.10:8884"
    authorities: str  # the setting with the authorities to trust
    certificate: str  # the setting with the bridge's own certificate
    its_name: str  # the way out where the peer's certificate is for another name


_LOOK_AT_CLOCK = "if its dates are right, this machine's clock is wrong: timedatectl"

# X509_V_ERR_... (openssl-verify(1)) -> the fault of the peer's certificate, and the way out.
_NOT_YET_VALID = 9
_UNKNOWN_AUTHORITY = (
    "is signed by an authority that is not in {authorities}",
    ("name the file of the authority that signed it in {authorities}"),
)
_ANOTHER_NAME = "is for another name", "{its_name}"
_VERIFY: dict[int, tuple[str, str]] = {
    2: _UNKNOWN_AUTHORITY,
    18: _UNKNOWN_AUTHORITY,  # self-signed
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    10: ("has expired", f"renew it at {{peer}}; {_LOOK_AT_CLOCK}"),
    62: _ANOTHER_NAME,
    64: _ANOTHER_NAME,  # for another address
}

_SHOW_ONE = "name a certificate that the peer's authority signed in {certificate}"
_OLD = "bring both sides to TLS 1.2 or newer"

# OpenSSL's words -> their meaning, and the way out. The first entry whose words occur counts.
_WORDS: tuple[tuple[str, str, str], ...] = (
    ("alert certificate required", "{peer} wants a certificate, and got none", _SHOW_ONE),
    (
        "alert handshake failure",
        "{peer} wants a certificate, or supports none of the bridge's ciphers",
        _SHOW_ONE,
    ),
    ("alert certificate expired", "{peer} says that {certificate} has expired", "renew it"),
    ("alert unknown ca", "{peer} does not know the authority that signed {certificate}", _SHOW_ONE),
    ("alert bad certificate", "{peer} refuses {certificate}, or wants one and got none", _SHOW_ONE),
    (
        "alert certificate unknown",
        "{peer} refuses {certificate}: expired, or signed by an authority that {peer} does not know",
        "renew it, or " + _SHOW_ONE,
    ),
    ("alert certificate revoked", "{peer} says that {certificate} is revoked", _SHOW_ONE),
    ("alert unsupported certificate", "{peer} refuses the kind of {certificate}", _SHOW_ONE),
    ("alert access denied", "{peer} refuses {certificate}", _SHOW_ONE),
    ("wrong version number", "{peer} answers, but not with TLS", "is the port one that speaks TLS?"),
    ("http request", "{peer} answers, but not with TLS", "is the port one that speaks TLS?"),
    ("record layer failure", "{peer} answers, but not with TLS", "is the port one that speaks TLS?"),
    ("packet length too long", "{peer} answers, but not with TLS", "is the port one that speaks TLS?"),
    ("protocol version", "{peer} and the bridge have no TLS version in common", _OLD),
    ("unsupported protocol", "{peer} and the bridge have no TLS version in common", _OLD),
)


def explain(error: OSError, names: Names) -> OSError:
    """Explain an error of a TLS socket. Returns TlsFailed where only a person can help.

    A certificate that is not valid yet is a plain OSError: after a boot the clock of a Raspberry Pi may be
    wrong for a while.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_certificate(error, names)
    if isinstance(error, ssl.SSLError):
        return explain_words(error.reason or str(error), names) or error
    return error


def explain_words(words: str, names: Names) -> TlsFailed | None:
    """Explain OpenSSL's words without an exception. None: time may cure the failure."""
    words = words.replace("_", " ").lower()
    for part, reason, way_out in _WORDS:
        if part in words:
            return _failed(reason, way_out, names)
    return None


def _explain_certificate(error: ssl.SSLCertVerificationError, names: Names) -> OSError:
    detail = error.verify_message.rstrip(".")
    if error.verify_code == _NOT_YET_VALID:
        return OSError(f"the certificate of {names.peer} is not valid yet; {_LOOK_AT_CLOCK}")
    wrong, way_out = _VERIFY.get(error.verify_code, ("can't be verified", "get a new certificate for {peer}"))
    return _failed(f"the certificate of {{peer}} {wrong} ({detail})", way_out, names)


def _failed(reason: str, way_out: str, names: Names) -> TlsFailed:
    return TlsFailed(reason.format_map(vars(names)), way_out.format_map(vars(names)))
