"""Accepts connections that are to be encrypted, and counts them from their first moment on.

asyncio's own servers tell of a connection when TLS is agreed upon; until then whoever opens one is known to nobody.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from server.http2.places import Place, Places
from server.http2.sockets import BACKLOG

logger = logging.getLogger("nextvalue.http2")

# Where the machine has no file left for a connection, until there may be one again.
PAUSE_SECONDS = 1.0


class TlsAcceptor:
    """One listening socket, which is its own from now on."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[Place], asyncio.Protocol],
        places: Places,
        *,
        context: ssl.SSLContext,
        handshake_seconds: float,
        shutdown_seconds: float,
    ) -> None:
        """`protocol` is made for each connection that agrees upon TLS within `handshake_seconds`."""
        self._listening = listening
        self._protocol = protocol
        self._places = places
        self._context = context
        self._handshake_seconds = handshake_seconds
        self._shutdown_seconds = shutdown_seconds
        self._loop = asyncio.get_running_loop()
        self._agreeing: set[asyncio.Task[None]] = set()
        self._is_closed = False
        listening.listen(BACKLOG)
        listening.setblocking(False)
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(BACKLOG):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.error("no connection is accepted for %g s: %s", PAUSE_SECONDS, error)  # noqa: TRY400 (no traceback)
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE_SECONDS, self._go_on)
                return
            accepted.setblocking(False)
            place = self._places.take(address[0] if isinstance(address, tuple) else "")
            if place is None:
                # Before TLS is agreed upon there is nothing that could be said.
                accepted.close()
                continue
            task = self._loop.create_task(self._agree(accepted, place))
            self._agreeing.add(task)
            task.add_done_callback(self._agreeing.discard)

    async def _agree(self, accepted: socket.socket, place: Place) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(place),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds,
                ssl_shutdown_timeout=self._shutdown_seconds,
            )
        except OSError as error:  # of the socket, of TLS, or that it took too long
            logger.debug("no TLS with a caller: %s", error)
            place.leave()
        except BaseException:
            place.leave()
            raise

    def close(self) -> None:
        """Accept no more. Handshakes under way go on; `end` ends them."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def end(self) -> None:
        """Give up on handshakes under way too."""
        self.close()
        for task in self._agreeing:
            task.cancel()
