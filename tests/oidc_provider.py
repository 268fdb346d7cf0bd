"""An OpenID provider in a process of its own: django-oauth-toolkit on the loopback.

    python tests/oidc_provider.py PORT FOLDER REDIRECT_URI

It has discovery, the authorization code flow with PKCE, id tokens signed by RS256, their keys, and
logout. Who types a name in `PEOPLE` is that person: passwords are not what is tested.
"""

import sys
from pathlib import Path
from typing import Any

CLIENT, SECRET = "probing-dashboard", "a secret between the two servers"
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {"email": "Ann@Example.org", "email_verified": True},
    "ben": {"email": "ben@team.example", "email_verified": True},
    "eve": {"email": "eve@evil-example.org", "email_verified": True},
    "sub": {"email": "sub@deep.team.example", "email_verified": True},
    "uma": {"email": "uma@team.example", "email_verified": False},
    "una": {"email": "una@team.example"},
    "two": {"email": "a@b@team.example", "email_verified": True},
    "odd": {"email": "x\u202e\n@team.example", "email_verified": True},
    "nil": {},
}
"""What the provider says of each."""

FORM = """<title>Provider</title><form method="post">{token}
<input name="who"><button>Go on</button></form>"""


def main(port: int, folder: Path, redirect_uri: str) -> None:
    """Serve until the process is ended."""
    issuer = f"http://127.0.0.1:{port}/o"
    _configure(folder, issuer)
    _fill(redirect_uri)
    from django.core.management import call_command

    call_command("runserver", f"127.0.0.1:{port}", use_reloader=False, skip_checks=True)


def _configure(folder: Path, issuer: str) -> None:
    import django
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from django.conf import settings

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "provider.sqlite3"}
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        LOGIN_URL="/login/",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        OAUTH2_PROVIDER={
            "OAUTH2_VALIDATOR_CLASS": _validator_class,
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": issuer,
            "OIDC_RP_INITIATED_LOGOUT_ALWAYS_PROMPT": False,
            "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": key.decode(),
            "SCOPES": {"openid": "who you are", "email": "your address", "profile": "your name"},
        },
        ROOT_URLCONF=__name__,
        SECRET_KEY="of a provider that lives as long as a test",
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
        ],
        USE_TZ=True,
    )
    django.setup()


def _fill(redirect_uri: str) -> None:
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.urls import include, path
    from oauth2_provider.models import Application

    call_command("migrate", verbosity=0)
    for name in PEOPLE:
        User.objects.create_user(name)
    Application.objects.create(
        algorithm=Application.RS256_ALGORITHM,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        client_id=CLIENT,
        client_secret=SECRET,
        client_type=Application.CLIENT_CONFIDENTIAL,
        post_logout_redirect_uris=redirect_uri,
        redirect_uris=redirect_uri,
        skip_authorization=True,
    )
    globals()["urlpatterns"] = [
        path("login/", _login),
        path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    ]


def _login(request: Any) -> Any:
    from django.contrib.auth import login
    from django.contrib.auth.models import User
    from django.http import HttpResponse, HttpResponseRedirect
    from django.middleware.csrf import get_token

    if request.method == "POST":
        login(request, User.objects.get(username=request.POST["who"]))
        return HttpResponseRedirect(request.GET["next"])
    token = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    return HttpResponse(FORM.format(token=token))


def _validator_class(*arguments: Any, **named: Any) -> Any:
    from oauth2_provider.oauth2_validators import OAuth2Validator

    class Claims(OAuth2Validator):  # type: ignore[misc]
        def get_additional_claims(self, request: Any) -> dict[str, Any]:
            return PEOPLE[request.user.username]

    return Claims(*arguments, **named)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
