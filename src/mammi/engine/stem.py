"""A process that has loaded the libraries and divides into workers: loading them takes seconds, dividing nothing."""

import os
import signal
import socket
import struct
import subprocess
import sys
import weakref
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from mammi.errors import WorkerError

__all__ = ["Stem", "serve"]

#: A key press that ends the run is for the leader, which ends its workers.
_START = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from mammi.engine.stem import serve; serve({})"
_REPLY = struct.Struct("i")


class Stem:
    """The leader's hold on the process that becomes its workers.

    It is started when the first worker is asked for, holds no model, and ends with this object or with the leader, in
    whatever way that ends. It alone waits for workers, so that no number of a process is ever another's when it is killed.
    """

    def __init__(self) -> None:
        self._control: socket.socket | None = None

    def divide(self) -> tuple[int, Connection]:
        """Return a new worker: the number of its process, and the pipe to its `mammi.engine.worker.main`.

        Raises:
            WorkerError: if the libraries cannot be loaded a second time.
        """
        for control in (self._control, None):
            ours, theirs = Pipe()
            with theirs:
                reply = _ask(control or self._start(), b"+", [theirs.fileno()])
            if reply is not None:
                return reply, ours
            ours.close()
        raise WorkerError("a process that loads the same libraries as this one cannot be started: use one worker")

    def end(self, worker: int) -> int | None:
        """Kill a worker if it is not ended yet; return its exit code, minus the signal's if it was one, None if unknown."""
        return None if self._control is None else _ask(self._control, str(worker).encode())

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-c", _START.format(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        weakref.finalize(self, _finish, ours, process)
        self._control = ours
        return ours


def _ask(control: socket.socket, request: bytes, handles: "list[int] | None" = None) -> int | None:
    """Return the answer to one request; None if there is no one to answer."""
    try:
        socket.send_fds(control, [request], handles or [])
        reply = control.recv(_REPLY.size)
    except OSError:
        return None
    return int(_REPLY.unpack(reply)[0]) if reply else None


def _finish(control: socket.socket, process: "subprocess.Popen[bytes]") -> None:
    control.close()
    process.kill()
    process.wait()


def serve(handle: int) -> None:
    """Be the stem: fork for every handle that comes in, end and wait for every worker that is named.

    Args:
        handle: file descriptor of the socket to the leader.
    """
    from mammi.engine.worker import main  # with all it stands on: what this process is for

    control = socket.socket(fileno=handle)
    control.set_inheritable(False)
    while True:
        request, handles, _, _ = socket.recv_fds(control, 32, 1)
        if not request:  # the leader is gone; workers see it for themselves
            os._exit(0)
        if handles:
            worker = os.fork()
            if worker == 0:
                control.close()
                main(handles[0])
                os._exit(0)
            os.close(handles[0])
            control.sendall(_REPLY.pack(worker))
        else:
            os.kill(int(request), signal.SIGKILL)
            _, status = os.waitpid(int(request), 0)
            control.sendall(_REPLY.pack(os.waitstatus_to_exitcode(status)))
