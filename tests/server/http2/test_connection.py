"""One connection without a socket: streams, windows, faults, and anything at all."""

from collections.abc import Callable

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.http2 import frames
from server.http2.frames import Code, Setting, frame
from server.http2.headers import HeaderReader, write
from server.http2.limits import Limits
from tests.server.http2.peer import REQUEST, Peer, fault

OK = write([(":status", "200")])
TAIL = write([("grpc-status", "0")])


def test_the_first_frames_say_what_a_peer_may_do() -> None:
    kinds = [(kind, flags) for kind, flags, _, _ in Peer().first]
    assert kinds == [(frames.SETTINGS, 0), (frames.WINDOW_UPDATE, 0), (frames.SETTINGS, frames.ACK)]


def test_a_call_and_its_answer() -> None:
    peer = Peer()
    assert peer.send(peer.headers(1), peer.data(1, b"ask")) == []
    ((stream, headers, ends),) = peer.told.requests
    assert (stream, headers, ends) == (1, REQUEST, False)
    assert peer.told.data == {1: b"ask"}
    assert peer.told.ended == {1}
    peer.connection.respond(1, OK, b"answer", TAIL)
    (head, data, tail) = peer.frames()
    assert (head[:3], data, tail[:3]) == (
        (frames.HEADERS, frames.END_HEADERS, 1),
        (frames.DATA, 0, 1, b"answer"),
        (frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1),
    )
    assert peer.read_headers(head[3]) == [(":status", "200")]
    assert peer.read_headers(tail[3]) == [("grpc-status", "0")]
    assert peer.connection.num_streams == 0


@given(st.lists(st.integers(1, 30), max_size=60))
def test_frames_in_pieces_are_frames(cuts: list[int]) -> None:
    peer = Peer()
    sent = b"".join(peer.headers(k) + peer.data(k, bytes((k,)) * k) for k in range(1, 20, 2))
    for cut in cuts:
        peer.connection.receive(sent[:cut])
        sent = sent[cut:]
    peer.connection.receive(sent)
    assert peer.told.data == {k: bytes((k,)) * k for k in range(1, 20, 2)}
    assert peer.told.ended == set(range(1, 20, 2))


@given(
    window=st.integers(0, 50),
    frame_bytes=st.integers(16_384, 20_000),
    sizes=st.lists(st.integers(0, 40_000), min_size=1, max_size=4),
    grants=st.lists(st.tuples(st.booleans(), st.integers(1, 30_000)), max_size=20),
)
def test_nothing_is_sent_beyond_the_peers_windows_and_all_of_it_within(
    window: int, frame_bytes: int, sizes: list[int], grants: list[tuple[bool, int]]
) -> None:
    peer = Peer(settings={Setting.INITIAL_WINDOW_SIZE: window, Setting.MAX_FRAME_SIZE: frame_bytes})
    streams = {2 * k + 1: bytes((k,)) * size for k, size in enumerate(sizes)}
    left = {0: frames.DEFAULT_WINDOW} | dict.fromkeys(streams, window)
    got = dict.fromkeys(streams, b"")
    over: set[int] = set()

    def take(found: list[tuple[int, int, int, bytes]]) -> None:
        for kind, flags, stream, payload in found:
            if kind == frames.DATA:
                assert len(payload) <= frame_bytes
                for account in (0, stream):
                    left[account] -= len(payload)
                    assert left[account] >= 0
                assert stream not in over
                got[stream] += payload
            if flags & frames.END_STREAM and kind == frames.HEADERS:
                over.add(stream)

    for stream, data in streams.items():
        peer.send(peer.headers(stream, ends=True))
        peer.connection.respond(stream, OK, data, TAIL)
        take(peer.frames())
    for of_connection, increment in (*grants, (True, 10**6), *[(False, 10**6)] * len(streams)):
        waiting = [stream for stream in streams if stream not in over]
        if of_connection:
            left[0] += increment
            take(peer.send(frames.window_update(0, increment)))
        elif waiting:
            stream = waiting[0] if increment == 10**6 else waiting[increment % len(waiting)]
            left[stream] += increment
            take(peer.send(frames.window_update(stream, increment)))
    assert got == streams
    assert over == set(streams)


def test_while_the_socket_is_full_data_waits() -> None:
    peer = Peer()
    peer.send(peer.headers(1, ends=True))
    peer.connection.writable(yes=False)
    peer.connection.respond(1, OK, b"answer", TAIL)
    assert [kind for kind, *_ in peer.frames()] == [frames.HEADERS]
    assert peer.connection.waits(1)
    peer.connection.writable(yes=True)
    assert [kind for kind, *_ in peer.frames()] == [frames.DATA, frames.HEADERS]


def test_what_is_taken_is_credited_and_what_is_not_is_not() -> None:
    limits = Limits(window_bytes=1000, connection_window_bytes=100_000)
    peer = Peer(limits)
    assert peer.send(peer.headers(1), peer.data(1, b"x" * 500, ends=False)) == []
    assert peer.send(peer.data(1, b"x", ends=False)) == [(frames.WINDOW_UPDATE, 0, 1, (501).to_bytes(4, "big"))]
    peer.told.credits = False
    assert peer.send(peer.data(1, b"x" * 1000, ends=False)) == []
    assert fault(peer.send(peer.data(1, b"x", ends=False))) is Code.FLOW_CONTROL_ERROR


def test_more_streams_than_allowed_are_refused_and_may_come_again() -> None:
    peer = Peer(Limits(max_streams=1))
    found = peer.send(peer.headers(1, ends=True), peer.headers(3, ends=True))
    assert found == [(frames.RST_STREAM, 0, 3, Code.REFUSED_STREAM.to_bytes(4, "big"))]
    peer.connection.respond(1, OK, b"", TAIL)
    peer.frames()
    assert peer.send(peer.headers(5, ends=True)) == []
    assert [stream for stream, *_ in peer.told.requests] == [1, 5]


def test_behind_a_goaway_open_streams_go_on_and_new_ones_are_refused() -> None:
    peer = Peer()
    peer.send(peer.headers(1, ends=True))
    peer.connection.go_away()
    peer.connection.go_away()
    assert [(kind, payload[:4]) for kind, _, _, payload in peer.frames()] == [(frames.GOAWAY, (1).to_bytes(4, "big"))]
    assert peer.send(peer.headers(3, ends=True))[0][:3] == (frames.RST_STREAM, 0, 3)
    peer.connection.respond(1, OK, b"a", TAIL)
    assert len(peer.frames()) == 3


def test_a_warned_peer_may_begin_streams_until_it_has_read_the_warning() -> None:
    peer = Peer()
    peer.send(peer.headers(1, ends=True))
    peer.connection.warn()
    peer.connection.ping(b"12345678")
    told = peer.frames()
    assert [(kind, payload[:4]) for kind, _, _, payload in told] == [
        (frames.GOAWAY, b"\x7f\xff\xff\xff"),
        (frames.PING, b"1234"),
    ]
    assert peer.send(peer.headers(3, ends=True)) == [], "it was on its way"
    assert peer.send(frame(frames.PING, frames.ACK, 0, b"12345678")) == []
    assert peer.told.pongs == [b"12345678"]
    peer.connection.go_away()
    assert [(kind, payload[:4]) for kind, _, _, payload in peer.frames()] == [(frames.GOAWAY, (3).to_bytes(4, "big"))]
    assert peer.send(peer.headers(5, ends=True))[0][:3] == (frames.RST_STREAM, 0, 5)
    peer.connection.warn()
    assert peer.frames() == []


def test_a_reset_is_told_and_its_answer_goes_nowhere() -> None:
    peer = Peer()
    assert peer.send(peer.headers(1), frames.reset(1, Code.CANCEL)) == []
    assert peer.told.resets == [1]
    peer.connection.respond(1, OK, b"answer", TAIL)
    assert peer.frames() == []
    # Data may have been on its way.
    assert peer.send(peer.data(1, b"late")) == []


def test_an_answer_before_the_requests_end_stops_the_request() -> None:
    peer = Peer()
    peer.send(peer.headers(1), peer.data(1, b"some", ends=False))
    peer.connection.finish(1, OK + TAIL)
    assert [kind for kind, *_ in peer.frames()] == [frames.HEADERS, frames.RST_STREAM]


def test_resetting_fast_ends_the_connection() -> None:
    """CVE-2023-44487: every reset costs the server and not the peer."""
    peer = Peer(Limits(max_nuisances=100))
    for k in range(1, 401, 2):
        found = peer.send(peer.headers(k), frames.reset(k, Code.CANCEL))
        if fault(found):
            break
    assert fault(found) is Code.ENHANCE_YOUR_CALM
    assert peer.connection.is_closed
    assert len(peer.told.requests) <= 101


def test_headers_without_an_end_end_the_connection() -> None:
    """CVE-2024-27316 and its like."""
    peer = Peer(Limits(max_header_bytes=4096))
    found = peer.send(frame(frames.HEADERS, 0, 1, b"\0" * 100))
    while not peer.connection.is_closed:
        found = peer.send(frame(frames.CONTINUATION, 0, 1, b"\0" * 100))
    assert fault(found) is Code.ENHANCE_YOUR_CALM


def test_headers_over_several_frames_are_one_block() -> None:
    peer = Peer()
    block = peer.headers(1)[9:]
    sent = [frame(frames.HEADERS, frames.END_STREAM, 1, block[:5]), frame(frames.CONTINUATION, 0, 1, block[5:9])]
    assert peer.send(*sent, frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[9:])) == []
    assert peer.told.requests == [(1, REQUEST, True)]


def test_padding_and_priority_are_taken_off_and_counted() -> None:
    peer = Peer()
    block = peer.headers(1)[9:]
    flags = frames.END_HEADERS | frames.PADDED | frames.PRIORITIZED
    peer.send(frame(frames.HEADERS, flags, 1, b"\3" + b"\0\0\0\0\7" + block + b"\0\0\0"))
    peer.send(frame(frames.DATA, frames.END_STREAM | frames.PADDED, 1, b"\2ab\0\0"))
    assert peer.told.requests == [(1, REQUEST, False)]
    assert peer.told.data == {1: b"ab"}


Make = Callable[[Peer], bytes]
FAULTS: dict[str, tuple[list[Make], Code]] = {
    "even stream": ([lambda p: p.headers(2)], Code.PROTOCOL_ERROR),
    "data of no stream": ([lambda p: p.data(5, b"x")], Code.PROTOCOL_ERROR),
    "data on 0": ([lambda p: p.data(0, b"x")], Code.PROTOCOL_ERROR),
    "window 0": ([lambda _: frames.window_update(0, 0)], Code.PROTOCOL_ERROR),
    "window too large": ([lambda _: frames.window_update(0, 2**31 - 1)], Code.FLOW_CONTROL_ERROR),
    "short ping": ([lambda _: frame(frames.PING, 0, 0, b"1234567")], Code.FRAME_SIZE_ERROR),
    "ping on a stream": ([lambda _: frame(frames.PING, 0, 1, b"12345678")], Code.PROTOCOL_ERROR),
    "settings of 5 bytes": ([lambda _: frame(frames.SETTINGS, 0, 0, b"12345")], Code.FRAME_SIZE_ERROR),
    "acknowledged with a payload": ([lambda _: frame(frames.SETTINGS, 1, 0, b"123456")], Code.FRAME_SIZE_ERROR),
    "huge window": (
        [lambda _: frames.settings({Setting.INITIAL_WINDOW_SIZE: 2**31})], Code.FLOW_CONTROL_ERROR,
    ),
    "small frames": ([lambda _: frames.settings({Setting.MAX_FRAME_SIZE: 100})], Code.PROTOCOL_ERROR),
    "push": ([lambda _: frame(frames.PUSH_PROMISE, 0, 1, b"")], Code.PROTOCOL_ERROR),
    "block left open": ([lambda _: frame(frames.HEADERS, 0, 1, b""), lambda p: p.data(1, b"")], Code.PROTOCOL_ERROR),
    "continuation of nothing": ([lambda _: frame(frames.CONTINUATION, 4, 1, b"")], Code.PROTOCOL_ERROR),
    "no headers": ([lambda _: frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff")], Code.COMPRESSION_ERROR),
    "padding beyond": ([lambda p: p.headers(1), lambda _: frame(0, frames.PADDED, 1, b"\5ab")], Code.PROTOCOL_ERROR),
    "reset of 3 bytes": ([lambda p: p.headers(1), lambda _: frame(3, 0, 1, b"123")], Code.FRAME_SIZE_ERROR),
    "a frame too long": ([lambda _: b"\xff\xff\xff" + bytes(6)], Code.FRAME_SIZE_ERROR),
    "headers in the middle": ([lambda p: p.headers(1), lambda p: p.headers(1)], Code.PROTOCOL_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_the_protocol_ends_the_connection_with_its_code(name: str) -> None:
    made, code = FAULTS[name]
    peer = Peer()
    found = peer.send(*(make(peer) for make in made))
    assert fault(found) is code
    assert peer.connection.is_closed
    assert peer.send(peer.headers(101)) == [], "it said more behind its end"


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(6, 0, 0, b"12345678")]
)
def test_a_beginning_that_is_none(sent: bytes) -> None:
    peer = Peer()
    fresh = type(peer.connection)(peer.told, peer._write)
    fresh.receive(sent)
    assert fault(peer.frames()) is Code.PROTOCOL_ERROR


@settings(max_examples=300)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_taken_or_refused(data: bytes, has_call: bool) -> None:
    peer = Peer()
    if has_call:
        peer.send(peer.headers(1))
    peer.send(data)
    peer.connection.respond(1, OK, b"answer", TAIL)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 7), st.binary(max_size=40)), max_size=20)
)
def test_any_frames_are_taken_or_refused(sent: list[tuple[int, int, int, bytes]]) -> None:
    """Whatever happens, what is told makes sense: the handler's own assertions hold."""
    peer = Peer(Limits(max_nuisances=10))
    for kind, flags, stream, payload in sent:
        peer.send(frame(kind, flags, stream, payload))
    assert peer.connection.num_streams <= len(peer.told.requests)


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["a", "b", "te", "x-bin"]), st.text("abc", max_size=9)), max_size=5))
)
def test_header_blocks_are_read_as_they_were_meant(blocks: list[list[tuple[str, str]]]) -> None:
    """Remembered or not, with a table that changes in between."""
    import hpack  # noqa: PLC0415 (the other side)

    reader, encoder = HeaderReader(max_bytes=10_000), hpack.Encoder()
    for k, block in enumerate(blocks * 2):
        assert reader.read(encoder.encode(block) if k % 3 else write(block)) == block


@given(
    st.lists(
        st.tuples(st.text("abc", min_size=1, max_size=300), st.text(st.characters(max_codepoint=255), max_size=300))
    )
)
def test_blocks_we_write_are_read(headers: list[tuple[str, str]]) -> None:
    assert HeaderReader(max_bytes=10**6).read(write(headers)) == headers


def test_a_block_that_is_short_and_means_much_is_not_remembered() -> None:
    """A few bytes may name a long entry of the table again and again."""
    reader, encoder = HeaderReader(max_bytes=16_384), hpack.Encoder()
    reader.read(encoder.encode([("x", "y" * 3900)]))
    (entry,) = encoder.encode([("x", "y" * 3900)])
    for k in range(64):
        found = reader.read(bytes([entry] * 4) + bytes((0x00, 1)) + b"z" + bytes((1, 32 + k)))
        assert len(found) == 5
    assert not any("y" * 3900 in dict(each).values() for each in reader._remembered.values())


@pytest.mark.parametrize(("num_changes", "code"), [(2, None), (3, Code.COMPRESSION_ERROR)])
def test_changes_of_the_tables_size_are_few(num_changes: int, code: Code | None) -> None:
    peer = Peer()
    block = b"\x3f\xe1\x1f" * num_changes + hpack.Encoder().encode(REQUEST)
    assert fault(peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))) == code


def test_headers_in_one_frame_are_bounded_like_those_in_many() -> None:
    peer = Peer()
    block = b"\0\x01a\x7f\x00" + b"b" * 127
    sent = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block * 200)
    assert fault(peer.send(sent)) == Code.ENHANCE_YOUR_CALM
