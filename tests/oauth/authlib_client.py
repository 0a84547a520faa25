"""Gets tokens at the gateway by authlib, and checks them by authlib and PyJWT. python.ts sets the environment."""

import os

# The platform under test has no TLS. authlib would refuse its addresses.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

import jwt
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator

env = os.environ
gateway, audience = env["GATEWAY"], env["AUDIENCE"]
client_id, client_secret = env["CLIENT_ID"], env["CLIENT_SECRET"]


def discover():
    """The metadata, which is the same under both names, as far as authlib checks it.

    authlib does not accept an empty list of response types, though RFC 8414 asks for a list and nothing more.
    """
    names = ["oauth-authorization-server", "openid-configuration"]
    documents = [requests.get(f"{gateway}/.well-known/{name}", timeout=10).json() for name in names]
    assert documents[0] == documents[1]
    metadata = AuthorizationServerMetadata(documents[0])
    for key in AuthorizationServerMetadata.REGISTRY_KEYS:
        if key != "response_types_supported":
            getattr(metadata, f"validate_{key}")()
    return metadata


metadata = discover()
endpoint = metadata["token_endpoint"]
signing_keys = jwt.PyJWKClient(metadata["jwks_uri"])


class Validator(JWTBearerTokenValidator):
    def get_jwks(self):
        return requests.get(metadata["jwks_uri"], timeout=10).json()


validator = Validator(issuer=metadata["issuer"], resource_server=audience)


def check(token, subject, issued_to):
    """Both libraries accept the token and read the same of it."""
    key = signing_keys.get_signing_key_from_jwt(token)
    mandatory = ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"]
    claims = jwt.decode(
        token, key, algorithms=["ES256"], audience=audience, issuer=metadata["issuer"], options={"require": mandatory}
    )
    assert (claims["client_id"], subject in (None, claims["sub"])) == (issued_to, True), claims
    read = validator.authenticate_token(token)
    validator.validate_token(read, ["patient:read"], None)
    assert dict(read) == claims


def ask(session):
    token = session.fetch_token(endpoint, grant_type="client_credentials", scope="patient:read")
    assert (token["token_type"], token["scope"], token["expires_in"]) == ("Bearer", "patient:read", 300), token
    assert session.get(f"{gateway}/patients?limit=1").status_code == 200
    assert session.post(f"{gateway}/patients", json={}).status_code == 403
    return token["access_token"]


for method in ["client_secret_basic", "client_secret_post"]:
    check(ask(OAuth2Session(client_id, client_secret, token_endpoint_auth_method=method)), f"client:{client_id}", client_id)
    print(f"authlib got a token by {method}; authlib and PyJWT accept it")
    try:
        ask(OAuth2Session(client_id, "a wrong secret", token_endpoint_auth_method=method))
        raise AssertionError("a wrong secret got a token")
    except OAuthError as error:
        assert error.error == "invalid_client", error

key_id = env["KEY_CLIENT_ID"]
session = OAuth2Session(key_id, env["PRIVATE_KEY"], token_endpoint_auth_method="private_key_jwt")
session.register_client_auth_method(PrivateKeyJWT(endpoint, alg="RS384", headers={"kid": env["KEY_ID"]}))
check(ask(session), f"client:{key_id}", key_id)
print("authlib got a token by private_key_jwt; authlib and PyJWT accept it")

account = requests.get(f"{gateway}/auth/me", headers={"authorization": f"Bearer {env['USER_TOKEN']}"}, timeout=10).json()
check(env["USER_TOKEN"], account["sub"], "first-party")
print("authlib and PyJWT accept the token of a person, whose sub is that of their account")
