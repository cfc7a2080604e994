"""Django's settings. What a person may change comes from the environment, through mmproject.conf."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import dj_database_url
from csp.constants import NONE, SELF

from mmproject import primary
from mmproject.conf import ROOT, conf, hosts
from mmproject.db import PSYCOPG_OPTIONS, Role, connect_url
from mmproject.errors import NoDatabase
from mmproject.secrets import kept_secret

BASE_DIR = ROOT
DEBUG = conf.debug
SECRET_KEY = conf.secret_key or kept_secret(conf.var, "django")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", *conf.allowed_hosts]
if conf.host not in ALLOWED_HOSTS:
    ALLOWED_HOSTS.append(conf.host)

# Not "daphne": it only changes `runserver`, and every process would import Twisted for it (0.2 s of CPU each).
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "ninja",
    "axes",
    "csp",
    "django_htmx",
    "mmproject",
    "journal",
    "ledger",
    "exchange",
    "authority",
    "accounts",
    "console",
    "nodeagent",
    "bench",
    "chaos",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "mmproject.middleware.ContentSecurityPolicy",
    "mmproject.middleware.SessionCookieShape",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "mmproject.middleware.AdminsUnfitValues",
    "axes.middleware.AxesMiddleware",  # last: it turns a lock-out into its own answer
]

ROOT_URLCONF = "mmproject.urls"
ASGI_APPLICATION = "mmproject.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Database -------------------------------------------------------------------------------------------------

# These make, change or fill schemas; everything else run by hand gets along with the console's rights.
ADMIN_COMMANDS = frozenset({"migrate", "sqlmigrate", "simulate", "bench", "chaos", "dbshell"})
POOL_TIMEOUT_S = 2  # a request that waits longer for a connection had better fail visibly


def _role() -> Role:
    return "admin" if len(sys.argv) > 1 and sys.argv[1] in ADMIN_COMMANDS else "console"


def database(url: str, *, pool_size: int = 0) -> dict[str, Any]:
    """Django's description of the database at `url`; with a pool of `pool_size` connections unless that is 0."""
    parts, servers = urlsplit(url), hosts(url)
    login, at, place = parts.netloc.rpartition("@")
    # The parser knows of one server only; libpq takes several, and keeps to the one that can write.
    first = urlunsplit(parts._replace(netloc=f"{login}{at}{place.split(',')[0]}"))
    description: dict[str, Any] = dict(dj_database_url.parse(first, conn_max_age=0))
    description["ENGINE"] = "mmproject.backend"
    if len(servers) > 1:
        description["HOST"] = ",".join(host for host, _ in servers)
        description["PORT"] = ",".join(str(port) for _, port in servers)
    options = {**PSYCOPG_OPTIONS, **description.get("OPTIONS", {})}
    if pool_size:
        options["pool"] = {
            "min_size": 1, "max_size": pool_size, "timeout": POOL_TIMEOUT_S, "connection_class": primary.Connection,
        }  # fmt: skip
    # With a pool, a connection that the server has dropped is noticed when it is taken, not by the query.
    return {**description, "CONN_HEALTH_CHECKS": True, "OPTIONS": options}


def _default_database() -> dict[str, Any]:
    try:
        return database(connect_url(_role()), pool_size=conf.pool_size)
    except NoDatabase:
        # `check`, `makemigrations`, `help` need none. Port 9 (discard) answers nobody, should a query come after all.
        return database("postgresql://nobody@127.0.0.1:9/none")


DATABASES = {"default": _default_database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Web ------------------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATICFILES_DIRS = [path for path in [ROOT / "static"] if path.is_dir()]
WHITENOISE_USE_FINDERS = True  # served from where the packages keep them: no collectstatic step to forget
WHITENOISE_AUTOREFRESH = DEBUG

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
# Two systems side by side on one host share cookies whatever their ports, so each names its own.
SESSION_COOKIE_NAME = f"mm_session_{conf.port}"
CSRF_COOKIE_NAME = f"mm_csrf_{conf.port}"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: it refuses a locked-out pair before a password is tried
    "django.contrib.auth.backends.ModelBackend",
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=5)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # nobody can lock another person out from elsewhere
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

CHANNEL_LAYERS: dict[str, Any] = {}  # none: each socket is fed from the tables by one task of its own
NINJA_PAGINATION_MAX_LIMIT = 1000

LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

UNFOLD = {"SITE_TITLE": "Market maker", "SITE_HEADER": "Market maker", "SITE_URL": "/"}

LOGGING_CONFIG = "mmproject.logs.configure"
LOGGING = {"level": conf.log_level, "process": conf.process}
# models.W045: constraints in SQL's own words are for PostgreSQL to judge, not for a form.
SILENCED_SYSTEM_CHECKS = ["models.W045"]
