"""Errors that a user can fix, as one line, and the exit statuses of the command."""

from __future__ import annotations

import errno

from llmengine.types.errors import LLMEngineError
from pytest_llmengine.containers.docker import ContainerError

USER_ERROR = 2
INTERRUPTED = 130


def user_message(error: Exception) -> str | None:
    """The message for the user, on one line; None for a bug, which is raised with its traceback.

    The message of a container that failed ends with lines of its log, which stay separate lines.
    """
    if _is_usage_error(error):
        return _usage_message(error)
    if isinstance(error, OSError):
        return _os_message(error)
    if isinstance(error, ContainerError):
        return str(error)
    if isinstance(error, LLMEngineError) or type(error) is LookupError:
        return " ".join(str(error).split())
    return None


def _is_usage_error(error: Exception) -> bool:
    # New versions of Typer have click's exceptions under a private name; old ones import them.
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _usage_message(error: Exception) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "llmengine"
    return f"{message or 'no command given'}; see `{command} --help`"


def _os_message(error: OSError) -> str | None:
    if error.errno == errno.EADDRINUSE:
        return error.strerror  # of the listener, which says what to do
    if error.filename is not None and error.errno in {
        errno.ENOENT,
        errno.EACCES,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENOSPC,
    }:
        return f"{error.filename}: {error.strerror}"
    return None
