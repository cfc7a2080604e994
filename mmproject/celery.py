"""Celery: the exchange's clock and external orders, the second sweeper, and the quote versions' partitions.

Nothing here may matter twice or never: each task computes from the tables what is due. So messages expire (queues
stay bounded while no worker runs), and a lost one is made good by the next.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mmproject.settings")
os.environ.setdefault("MM_DB_POOL_SIZE", "4")

import warnings
from typing import Any

from celery import Celery
from celery.exceptions import WorkerShutdown
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_shutting_down
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from mmproject import broker, logs
from mmproject.conf import conf
from mmproject.db import PSYCOPG_OPTIONS, connect_url

# Root runs the worker as root on purpose; what the warning is about, pickled messages, we accept none of.
warnings.filterwarnings("ignore", category=SecurityWarning)

SWEEP_INTERVAL_S = 1.0
KEEP_INTERVAL_S = 5.0  # half the width of the narrowest partition of the quote versions
EXPIRES_TICKS = 5  # a message older than this many of its intervals is dropped unread
VISIBILITY_TIMEOUT_S = 30  # a task taken by a worker that died is run again after it
POLL_INTERVAL_S = 0.25  # only when a notification was missed


def _export_to_libpq(conninfo: str) -> None:
    """Give libpq, by its environment variables, the options that pgmq's client leaves out of a connection string.

    It keeps host, port, database, user and password only; TLS, the timeout to connect and the name would be lost.
    """
    for option in Conninfo.parse(conninfo.encode()):
        if option.val is not None and option.envvar is not None:
            name = option.envvar.decode()
            if name not in ("PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"):
                os.environ.setdefault(name, option.val.decode())


app = Celery("market")

if conf.broker_url:
    app.conf.broker_url = conf.broker_url
else:
    # pgmq takes the whole connection string as an option; the address itself then carries no password.
    broker.use()
    app.conf.broker_url = "pgmq://localhost"
    _conninfo = make_conninfo(connect_url("exchange"), **PSYCOPG_OPTIONS)
    _export_to_libpq(_conninfo)
    app.conf.broker_transport_options = {
        "conn_string": _conninfo,
        "init_extension": False,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "wait_time_seconds": 0,
        "use_notify": True,
        "notify_throttle_interval_ms": 0,
        "polling_interval": POLL_INTERVAL_S,
        "pool_timeout": 5,
    }

app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,  # mmproject.logs has set it up
    worker_enable_remote_control=False,  # no fan-out queues in the database that nobody reads
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # the database comes back; so do we
    task_default_queue="mm_tasks",
    timezone="UTC",
    beat_scheduler="celery.beat:Scheduler",  # keeps its times in memory: nothing on disk to be broken by kill -9
    beat_max_loop_interval=1,
    accept_content=["json"],
    beat_schedule={
        "tick": {
            "task": "exchange.tasks.tick",
            "schedule": conf.tick_ms / 1000,
            "options": {"expires": EXPIRES_TICKS * conf.tick_ms / 1000},
        },
        "sweep": {
            "task": "authority.tasks.sweep",
            "schedule": SWEEP_INTERVAL_S,
            "options": {"expires": EXPIRES_TICKS * SWEEP_INTERVAL_S},
        },
        "keep_partitions": {
            "task": "exchange.tasks.keep_partitions",
            "schedule": KEEP_INTERVAL_S,
            "options": {"expires": EXPIRES_TICKS * KEEP_INTERVAL_S},
        },
    },
)
app.autodiscover_tasks()


def _configure_logs(**_: Any) -> None:
    """Instead of Celery's own: one form of log for all processes."""
    logs.configure({"level": conf.log_level, "process": conf.process})


def _stop_at_once(**_: Any) -> None:
    """Leave the wait for messages now. Celery itself would notice only when the next one comes, or after 2 s.

    Called in the main thread's signal handler, so it ends that wait; tasks that run are still waited for.
    """
    raise WorkerShutdown(0)


setup_logging.connect(_configure_logs)
worker_shutting_down.connect(_stop_at_once)
