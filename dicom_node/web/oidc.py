"""A login at an OpenID provider -> the name by which the node knows the user (OpenID Connect Core 1.0 3.1).

The code flow with PKCE (RFC 7636): a browser is sent to the provider with a state, a nonce and the digest of a
verifier, all made for this login and kept in a signed cookie of the browser; it comes back with a code, which this
process changes for an ID token. The role is never the provider's to give: the user must be one of the node's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from ..errors import Rejected, Unavailable
from ..settings.web import OidcSettings
from .problems import Forbidden

#: Path to which the provider sends the browser back.
BACK = "/login/oidc/back"
#: Time in which a login must be over, and longest wait for an answer of the provider (s).
LOGIN_SECONDS, ANSWER_SECONDS = 600.0, 10.0
#: Signatures of ID tokens that are accepted (RFC 7518 3.1); never "none", and none with a shared secret.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(frozen=True)
class Begun:
    """A login that has begun, as the browser keeps it.

    Parameters
    ----------
    state, nonce, verifier : str
        Secrets of this login: for the way back, the ID token, and PKCE.
    target : str
        Address of the page to go to afterwards.
    at : float
        Time at which it began (s since 1970).
    """

    state: str
    nonce: str
    verifier: str
    target: str
    at: float


class Provider:
    """The OpenID provider of a page.

    Parameters
    ----------
    settings : OidcSettings
    key : bytes
        Secret of this node, which signs what the browser keeps.

    Raises
    ------
    Rejected
        Where what the extra `oidc` installs, the secret or the authorities are missing.
    """

    def __init__(self, settings: OidcSettings, key: bytes, clock: Callable[[], float] = time.time) -> None:
        if find_spec("joserfc") is None:
            raise Rejected("[web.oidc] needs more packages: pip install 'vq-dicom-node[oidc]'")
        self._settings, self._key, self._clock = settings, key, clock
        self._secret()
        try:
            self._trusted = ssl.create_default_context(cafile=settings.authorities)
        except (OSError, ssl.SSLError) as error:
            raise Rejected(f"the authorities of [web.oidc] cannot be used: {error}") from error

    def begin(self, target: str) -> tuple[str, str]:
        """Return the provider's address to send a browser to, and the value of a cookie for the way back.

        Raises
        ------
        Unavailable
            Where the provider does not answer.
        """
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        begun = Begun(state, nonce, verifier, target, self._clock())
        digest = hashlib.sha256(begun.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._back,
            "scope": "openid profile email",
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        with self._client() as client:
            address = self._found(client)["authorization_endpoint"]
        text = base64.urlsafe_b64encode(json.dumps(asdict(begun)).encode()).decode()
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", f"{text}.{self._signed(text)}"

    def end(self, cookie: str, answer: Mapping[str, str]) -> tuple[str, str]:
        """Return the user's name, and the address to go to, for what a browser brought back.

        Raises
        ------
        Forbidden
            Where the login was not begun by this browser, took too long, or the provider let nobody in.
        Unavailable
            Where the provider does not answer.
        """
        begun = self._begun(cookie)
        if begun is None or not hmac.compare_digest(begun.state.encode(), answer.get("state", "").encode()):
            raise Forbidden("this login was not begun here, or took too long: begin it again")
        if "code" not in answer:
            raise Forbidden("the provider let nobody in")
        with self._client() as client:
            found = self._found(client)
            token = self._token(client, found, answer["code"], begun)
            claims = self._claims(token, self._asked(client, "GET", found["jwks_uri"]), begun.nonce)
        name = claims.get(self._settings.claim)
        if not isinstance(name, str) or (
            self._settings.claim == "email" and claims.get("email_verified") is not True
        ):
            raise Forbidden(f"the provider says no {self._settings.claim} of the user")
        return name, begun.target

    @property
    def _back(self) -> str:
        return self._settings.address.rstrip("/") + BACK

    def _secret(self) -> str:
        try:
            return self._settings.client_secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Rejected(f"client_secret_file of [web.oidc] cannot be read: {error}") from error

    def _signed(self, text: str) -> str:
        return hmac.new(self._key, b"oidc " + text.encode(), hashlib.sha256).hexdigest()

    def _begun(self, cookie: str) -> Begun | None:
        text, _, mark = cookie.partition(".")
        if not hmac.compare_digest(self._signed(text).encode(), mark.encode()):
            return None
        begun = Begun(**json.loads(base64.urlsafe_b64decode(text)))
        return begun if 0 <= self._clock() - begun.at <= LOGIN_SECONDS else None

    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=ANSWER_SECONDS, verify=self._trusted)

    def _found(self, client: httpx.Client) -> dict[str, Any]:
        """Return where the provider has what (OpenID Connect Discovery 1.0 4)."""
        issuer = self._settings.issuer
        found = self._asked(client, "GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        names = "authorization_endpoint", "token_endpoint", "jwks_uri"
        if found.get("issuer") != issuer or not all(isinstance(found.get(name), str) for name in names):
            raise Unavailable(f"{issuer} does not describe itself as an OpenID provider of this name")
        return found

    def _token(self, client: httpx.Client, found: Mapping[str, Any], code: str, begun: Begun) -> str:
        """Return the ID token for a code (OpenID Connect Core 1.0 3.1.3)."""
        data = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._back}
        own = quote(self._settings.client_id, safe=""), quote(self._secret(), safe="")  # RFC 6749 2.3.1
        token = self._asked(
            client, "POST", found["token_endpoint"], data={**data, "code_verifier": begun.verifier}, auth=own
        ).get("id_token")
        if not isinstance(token, str):
            raise Forbidden("the provider gave no ID token")
        return token

    def _asked(self, client: httpx.Client, method: str, address: str, **more: Any) -> dict[str, Any]:
        try:
            answer = client.request(method, address, headers={"Accept": "application/json"}, **more)
            content = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Unavailable(f"the OpenID provider does not answer ({type(error).__name__})") from error
        if 400 <= answer.status_code < 500:
            raise Forbidden(f"the OpenID provider refused: HTTP {answer.status_code}")
        if not answer.is_success or not isinstance(content, dict):
            raise Unavailable(f"the OpenID provider answers HTTP {answer.status_code}")
        return content

    def _claims(self, token: str, keys: Any, nonce: str) -> dict[str, Any]:
        """Return what an ID token says, once all is checked (OpenID Connect Core 1.0 3.1.3.7)."""
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        own = self._settings.client_id
        expected: dict[str, Any] = {"iss": self._settings.issuer, "aud": own, "nonce": nonce}
        rules: dict[str, Any] = {
            name: {"essential": True, "value": value} for name, value in expected.items()
        }
        rules |= {name: {"essential": True} for name in ("exp", "iat", "sub")}
        try:
            claims = jwt.decode(token, KeySet.import_key_set(keys), algorithms=ALGORITHMS).claims
            jwt.JWTClaimsRegistry(now=int(self._clock()), leeway=60, **rules).validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise Forbidden(f"the ID token of the provider is wrong ({type(error).__name__})") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else own) != own:
            raise Forbidden("the ID token of the provider is for somebody else")
        return dict(claims)
