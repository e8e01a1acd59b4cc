"""Authorities and their certificates, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dicom_node.settings.peers import TlsSettings


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(folder: Path, name: str) -> TlsSettings:
    """An authority, and a certificate of it for this machine."""
    key, root = folder / f"{name}-ca.key", folder / f"{name}-ca.crt"
    new = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new, "-keyout", str(key), "-out", str(root), "-subj", f"/CN={name}")
    own = TlsSettings(folder / f"{name}.crt", folder / f"{name}.key", root)
    request, names = folder / f"{name}.csr", folder / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("req", *new[:3], "-keyout", str(own.key), "-out", str(request), "-subj", "/CN=localhost")
    sign = ["-CA", str(root), "-CAkey", str(key), "-CAcreateserial", "-extfile", str(names), "-days", "2"]
    openssl("x509", "-req", "-in", str(request), *sign, "-out", str(own.certificate))
    return own


def sign(
    folder: Path, name: str, by: TlsSettings, subject: str, names: str = "IP:127.0.0.1", days: int = 2
) -> TlsSettings:
    """A further certificate of the authority of `by`."""
    own = TlsSettings(folder / f"{name}.crt", folder / f"{name}.key", by.authorities)
    request, extensions = folder / f"{name}.csr", folder / f"{name}.names"
    extensions.write_text(f"subjectAltName={names}\n")
    new = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(own.key), "-out", str(request), "-subj", subject]
    openssl("req", *new)
    key = by.authorities.with_suffix(".key")
    authority = ["-CA", str(by.authorities), "-CAkey", str(key), "-CAcreateserial"]
    openssl(
        *("x509", "-req", "-in", str(request), *authority, "-extfile", str(extensions)),
        *("-days", str(days), "-out", str(own.certificate)),
    )
    return own


def revocation_list(folder: Path, by: TlsSettings, revoked: list[TlsSettings], days: int = 1) -> Path:
    """A revocation list (RFC 5280 5) of the authority of `by`, with these certificates on it."""
    folder.mkdir()
    (folder / "index.txt").touch()
    (folder / "number").write_text("01\n")
    settings = folder / "ca.cnf"
    settings.write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index.txt\ncrlnumber={folder}/number\ndefault_md=sha256\n"
        f"default_crl_days={days}\n"
    )
    key = by.authorities.with_suffix(".key")
    who = ["-config", str(settings), "-cert", str(by.authorities), "-keyfile", str(key)]
    for one in revoked:
        openssl("ca", *who, "-revoke", str(one.certificate))
    openssl("ca", *who, "-gencrl", "-out", str(folder / "crl.pem"))
    return folder / "crl.pem"
