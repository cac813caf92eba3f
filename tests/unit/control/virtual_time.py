"""An event loop whose clock jumps to the next timer: hours pass in milliseconds, in exact order."""

import asyncio
import selectors


class _Selector(selectors.SelectSelector):
    """Instead of waiting, moves the clock."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("nothing will ever happen again")
        if not ready:
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs on virtual seconds."""

    def __init__(self):
        self._selector_of_time = _Selector()
        super().__init__(self._selector_of_time)

    def time(self):
        return self._selector_of_time.now


def run(main):
    """Run a coroutine on virtual time; returns its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def now():
    """The virtual time."""
    return asyncio.get_running_loop().time()
