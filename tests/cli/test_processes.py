from __future__ import annotations

import socket
import threading

import pytest

from everloop.cli.processes import bound
from everloop.errors import Invalid


def test_a_port_in_use_is_told_with_the_remedy() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(Invalid, match="choose another with --port"),
    ):
        bound("127.0.0.1", other.getsockname()[1])


def test_a_port_that_becomes_free_is_waited_for() -> None:
    other = socket.create_server(("127.0.0.1", 0))
    port = other.getsockname()[1]
    ending = threading.Timer(0.3, other.close)
    ending.start()
    bound("127.0.0.1", port, patience_s=30).close()
    ending.join()
