"""One stream of a connection: its windows, and what waits for them."""

from collections import deque


class Stream:
    """Windows and what waits for them."""

    __slots__ = ("credit", "is_received", "outbox", "receive_window", "send_window")

    def __init__(self, *, send_window: int, receive_window: int) -> None:
        self.send_window = send_window
        self.receive_window = receive_window
        # Taken and not yet credited.
        self.credit = 0
        self.is_received = False
        # Data, or the block that ends the stream.
        self.outbox: deque[tuple[bytes, bool]] = deque()
