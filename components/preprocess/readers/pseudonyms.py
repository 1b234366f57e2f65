"""Stand-ins for what names a person: keyed, so that nobody without the key can go back or test a guess.

Everything is HMAC-SHA256 (RFC 2104) under one key of the project, with a word for the domain in front, so that equal
values in two places give unrelated stand-ins. Without a table of pairs: the same key gives the same stand-ins in the
next export, another key unrelated ones, and whoever destroys the key makes the data set unlinkable.
"""

import base64
import hashlib
import hmac
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from model.errors import ConfigError, DataError

KEY_VARIABLE = "S2D_PSEUDONYM_KEY"
MIN_KEY_BYTES = 16
MAX_SHIFT_DAYS = 3650
HEX_DIGITS = 16  # 64 bits: for ten million studies the chance of one collision is 3 in a million
TAG_BYTES = 16


def pseudonym_key(environment: Mapping[str, str] = os.environ) -> bytes:
    """The project's key, from `S2D_PSEUDONYM_KEY`. Raises ConfigError when it is absent or too short to resist."""
    key = environment.get(KEY_VARIABLE, "").strip().encode()
    if len(key) < MIN_KEY_BYTES:
        found = f"has {len(key)} bytes" if key else "is not set"
        raise ConfigError(
            f"{KEY_VARIABLE} {found}; set it to {MIN_KEY_BYTES} bytes or more from a random source"
            " (openssl rand -hex 32), keep it secret and the same for every export, or say that the data are"
            " de-identified already"
        )
    return key


@dataclass(frozen=True)
class Pseudonyms:
    """Stand-ins under one key."""

    key: bytes = field(repr=False)

    def fingerprint(self) -> str:
        """Names the key in a manifest, to tell whether two data sets can be linked; gives nothing of it away."""
        return self._digest("fingerprint", "").hex()[:8]

    def patient(self, patient_id: str, issuer: str = "") -> str:
        return "p" + self._short("patient", f"{issuer}\n{patient_id}")

    def study(self, study_instance_uid: str) -> str:
        return "s" + self._short("study", study_instance_uid)

    def image(self, sop_instance_uid: str) -> str:
        return "i" + self._short("image", sop_instance_uid)

    def accession(self, accession_number: str) -> str:
        return "a" + self._short("accession", accession_number)[:15]  # SH holds 16 characters

    def uid(self, uid: str) -> str:
        """A UID under 2.25 (PS3.5 B.2). References stay consistent: equal UIDs give equal ones."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=5).int}"

    def shift(self, patient_id: str, issuer: str = "") -> timedelta:
        """What is added to every date of a patient: whole days into the past, so distances and times of day stay."""
        number = int.from_bytes(self._digest("shift", f"{issuer}\n{patient_id}")[:8], "big")
        return -timedelta(days=1 + number % MAX_SHIFT_DAYS)

    def seal(self, text: str) -> str:
        """Encrypt a name that must come back in `open`, such as a file's; equal texts give equal seals.

        A synthetic IV (as in RFC 5297): the tag over the text is also the nonce of the key stream.
        """
        plain = text.encode("utf-8", "surrogateescape")
        tag = self._mac("seal-tag", plain)[:TAG_BYTES]
        return base64.urlsafe_b64encode(tag + self._xor_stream(tag, plain)).decode("ascii")

    def open(self, sealed: str) -> str:
        """Undo `seal`. Raises DataError for what this key did not seal."""
        try:
            data = base64.urlsafe_b64decode(sealed.encode("ascii"))
        except ValueError:
            data = b""
        tag, plain = data[:TAG_BYTES], self._xor_stream(data[:TAG_BYTES], data[TAG_BYTES:])
        if not hmac.compare_digest(tag, self._mac("seal-tag", plain)[:TAG_BYTES]):
            raise DataError(f"an image was listed under another {KEY_VARIABLE}; use one key from listing to reading")
        return plain.decode("utf-8", "surrogateescape")

    def _short(self, domain: str, value: str) -> str:
        return self._digest(domain, value).hex()[:HEX_DIGITS]

    def _digest(self, domain: str, value: str) -> bytes:
        return self._mac(domain, value.encode("utf-8", "surrogatepass"))

    def _mac(self, domain: str, value: bytes) -> bytes:
        return hmac.digest(self.key, domain.encode() + b"\0" + value, hashlib.sha256)

    def _xor_stream(self, tag: bytes, data: bytes) -> bytes:
        blocks = -(-len(data) // hashlib.sha256().digest_size)
        stream = b"".join(self._mac("seal-stream", tag + number.to_bytes(4, "big")) for number in range(blocks))
        return bytes(a ^ b for a, b in zip(data, stream, strict=False))
