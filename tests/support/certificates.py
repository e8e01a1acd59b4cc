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
