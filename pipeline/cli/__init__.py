"""``credential-pipeline``: the command line. Exit 0 done, 1 failed, 2 wrong use or bad input."""

from __future__ import annotations

import sys

from pipeline.cli.commands import cli


def main() -> None:
    """Run a command; one line says what went wrong."""
    from peewee import PeeweeException
    from redis import RedisError

    from pipeline.errors import InvalidInput, PipelineError, SettingsError

    try:
        cli()
    except (InvalidInput, SettingsError) as exc:
        _leave(2, f"{exc.code}: {exc.message}")
    except PipelineError as exc:
        _leave(1, f"{exc.code}: {exc.message}")
    except ModuleNotFoundError as exc:
        _leave(1, f"{exc.name} is not installed: demo and up need a clone of the repository, and ./run")
    except RedisError as exc:
        _leave(1, f"Redis does not answer ({type(exc).__name__}): check REDIS_URL or REDIS_HOST")
    except PeeweeException as exc:
        _leave(1, f"the database does not answer ({type(exc).__name__}): check DATABASE_URL")


def _leave(code: int, text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(code)
