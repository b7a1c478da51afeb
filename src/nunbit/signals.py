"""Ending at the next safe moment when the system or the user asks for it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nunbit.errors import StoppedError
from nunbit.language import tr

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers that a stop was asked for."""

    received: signal.Signals | None = None

    def check(self) -> None:
        """Stop here if a signal has come.

        Raises:
            StoppedError: a signal has come; its exit code is 128 + the signal's number.
        """
        if self.received is not None:
            raise StoppedError(tr("stopped by {name}", name=self.received.name), self.received)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into requests inside the block; a second signal ends at once.

    Outside the main thread, where Python delivers no signals, nothing is changed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if request.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        request.received = signal.Signals(number)

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # Not those of a host in C (None), which could not be given back, nor what a shell has ignored.
    before = {n: h for n, h in handlers.items() if h not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
