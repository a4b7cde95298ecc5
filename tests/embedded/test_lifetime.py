"""The server ends with the process that started it, in every way that it can end."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from llmengine.embedded import server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Script = Callable[[str], subprocess.Popen[str]]

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")


def _listens(url: str) -> bool:
    address = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname, address.port)) == 0


def _ends(url: str, seconds: float = 10) -> bool:
    """Whether no server listens at that address any more, within a few seconds."""
    limit = time.monotonic() + seconds
    while _listens(url):
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("", 0),
        ("raise RuntimeError('a bug')", 1),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), 9)", -9),
    ],
)
def test_the_server_ends_with_its_parent(script: Script, ending: str, status: int) -> None:
    """By a return, an exception, an exit without clean-up and kill -9."""
    parent = script(
        "url = server.shared(gguf).root_url\n"
        "print(url, flush=True)\n"
        f"sys.stdin.readline()\n{ending}"
    )
    url = _line(parent)
    assert _listens(url)
    _, errors = parent.communicate("go\n", timeout=20)
    assert parent.returncode == status
    assert _ends(url)
    assert errors == "" or "a bug" in errors


def test_the_server_has_ended_before_its_parent_has(script: Script) -> None:
    """The port is free when the parent has ended."""
    parent = script(
        "import atexit\natexit.register(lambda: print(one.alive))\none = server.shared(gguf)\n"
    )
    assert parent.communicate(timeout=20) == ("False\n", "")


def test_the_servers_log_is_not_the_users(script: Script) -> None:
    """The terminal shows no output of llama.cpp, also for a bad request."""
    parent = script(
        "import urllib.request, urllib.error\n"
        "one = server.shared(gguf)\n"
        "try: urllib.request.urlopen(one.base_url + '/chat/completions', b'no json')\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    assert parent.communicate(timeout=20) == ("400\n", "")


def test_ctrl_c_is_left_to_the_parent(gguf: Path) -> None:
    """A terminal sends it to both, and the parent may still need the server."""
    with server.start(gguf) as own:
        os.kill(own.pid, signal.SIGINT)
        time.sleep(0.1)
        assert own.alive


@needs_fork
def test_a_forked_process_starts_its_own_and_leaves_the_parents_alone(script: Script) -> None:
    """Its stop and its exit do not affect the parent's server."""
    parent = script(
        "mine = server.shared(gguf)\n"
        "if os.fork() == 0:\n"
        "    inherited = mine.alive\n"
        "    mine.stop()\n"
        "    own = server.shared(gguf)\n"
        "    print(json.dumps([inherited, mine.root_url, own.root_url]), flush=True)\n"
        "    sys.exit()\n"
        "os.wait()\n"
        "print(mine.alive, server.shared(gguf) is mine, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    inherited, parents, forks = json.loads(_line(parent))
    assert inherited is False
    assert parents != forks
    assert _line(parent) == "True True"
    assert _listens(parents)
    assert _ends(forks)
    assert parent.communicate("go\n", timeout=20) == ("", "")


@needs_fork
def test_a_fork_in_the_middle_of_a_start_can_start_its_own(script: Script) -> None:
    """A lock that another thread held at the fork does not block it."""
    parent = script(
        "import threading\n"
        "from llmengine.embedded import process\n"
        "starting = threading.Thread(target=server.shared, args=[gguf])\n"
        "starting.start()\n"
        "while not process._children: time.sleep(0.01)\n"
        "assert server._lock.locked()\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(20)\n"
        "    print(server.shared(gguf).root_url, flush=True)\n"
        "    os._exit(0)\n"
        "starting.join()\n"
        "print(os.wait()[1], server.shared(gguf).alive)\n"
    )
    assert _line(parent).startswith("http://127.0.0.1:")
    assert _line(parent) == "0 True"


@needs_fork
def test_a_forked_process_does_not_keep_the_server_alive(script: Script) -> None:
    """It closes its copies of the parent's pipes."""
    parent = script(
        "url = server.shared(gguf).root_url\n"
        "if os.fork() == 0:\n"
        "    print(url, flush=True)\n"
        "    sys.stdin.readline()\n"
        "    os._exit(0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    url = _line(parent)
    assert parent.wait(timeout=20) == -9
    assert _ends(url)
    parent.communicate("go\n", timeout=20)
