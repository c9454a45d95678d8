"""One reference process for all workers, kept alive by a thread."""

import logging
import threading

from export.artifact.frames import Frame
from server.parity.link import LinkDown, SpawnedReference

logger = logging.getLogger("nextvalue.parity")

# How often the reference must show that it can still compute.
HELLO_SECONDS = 1.0


class KeptReference:
    """Says hello again and again: a reference that died or hangs is started anew, as for a single server.

    Workers join it at its socket; while there is none they drop their checks, with a count.
    """

    def __init__(self, reference: SpawnedReference) -> None:
        self._reference = reference
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="reference", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        down = False
        while not self._closing.is_set():
            try:
                self._reference.call(Frame({"type": "hello"}, {}))
            except LinkDown as error:
                # Once for a row of them: the waits between them grow.
                if not down and not self._closing.is_set():
                    logger.warning("%s", error)
                down = True
            else:
                down = False
            self._closing.wait(HELLO_SECONDS)

    def close(self) -> None:
        """End the reference. Blocks until it has."""
        self._closing.set()
        self._reference.close()
        self._thread.join()
