"""The guard on an application of the tests' own, and the decoder: what takes too long, what breaks, who waits for whom."""

import asyncio
import threading
import time

import pytest

from hostile_films import EXPLICIT, dicom, element, picture, png, small_idat
from mammi.errors import ImageError
from mammi.web.decoding import FilmDecoder
from mammi.web.guard import Guard
from mammi.web.links import ExplorerLinks
from mammi.web.upload import form_fields


class Talk:
    """One request put to a guard by hand; ``given`` are the messages of its body, a number among them a pause."""

    def __init__(self, guard, path="/film", method="POST", given=(), headers=(), cookie=True):
        self.guard, self.given, self.sent = guard, list(given), []
        own = [(b"host", b"127.0.0.1:9"), (b"origin", b"http://127.0.0.1:9")]
        if cookie:
            own.append((b"cookie", b"mammi-9=" + guard._cookie.encode()))
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "server": ("127.0.0.1", 9),
            "headers": [*own, *headers],
        }

    async def receive(self):
        while self.given and isinstance(self.given[0], float):
            await asyncio.sleep(self.given.pop(0))
        if self.given:
            return self.given.pop(0)
        await asyncio.sleep(3600)
        return None

    async def send(self, message):
        self.sent.append(message)

    async def run(self):
        await self.guard(self.scope, self.receive, self.send)
        return self.sent[0]["status"], b"".join(message.get("body", b"") for message in self.sent[1:])


def part(body=b"", more=False):
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % len(message["body"])})


def guard(app=echo, **options):
    return Guard(app, "secret", uploads=frozenset({"/film"}), **options)


def test_a_body_arrives_whole_in_one_message():
    assert asyncio.run(Talk(guard(), given=[part(b"ab", True), part(b"cd", True), part()]).run()) == (200, b"4")


def test_an_upload_that_trickles_in_is_given_up():
    given = [part(b"a", True), 5.0, part()]
    began = time.monotonic()
    status, body = asyncio.run(Talk(guard(patience=0.1), given=given).run())
    assert status == 408
    assert time.monotonic() - began < 3
    assert b"longer than" in body


def test_uploads_are_worked_on_one_at_a_time():
    working, most = [0], [0]

    async def slow(scope, receive, send):
        working[0] += 1
        most[0] = max(most[0], working[0])
        await asyncio.sleep(0.05)
        working[0] -= 1
        await echo(scope, receive, send)

    async def all_at_once():
        shared = guard(slow)
        return await asyncio.gather(*(Talk(shared, given=[part(b"x")]).run() for _ in range(7)))

    statuses = [status for status, _ in asyncio.run(all_at_once())]
    assert most == [1]
    assert sorted(statuses) == [200] * 4 + [503] * 3


def test_places_are_given_back_whatever_happens():
    async def breaks(scope, receive, send):
        raise RuntimeError("a secret path")

    async def often():
        shared = guard(breaks)
        return [await Talk(shared, given=[part(b"x")]).run() for _ in range(9)]

    for status, body in asyncio.run(often()):
        assert status == 500
        assert b"secret" not in body


def test_a_failure_of_a_page_shows_no_trace():
    async def breaks(scope, receive, send):
        raise RuntimeError("a secret path")

    status, body = asyncio.run(Talk(guard(breaks), "/units.json", "GET").run())
    assert status == 500
    assert b"secret" not in body
    assert body.startswith(b"{")


def test_the_refused_are_heard_out_within_bounds(monkeypatch):
    """A foreign page's endless upload is read up to a bound, then answered."""
    monkeypatch.setattr("mammi.web.guard.DRAINED", 1000)
    given = [part(b"x" * 100, True) for _ in range(50)]
    talk = Talk(guard(), given=given, headers=[(b"transfer-encoding", b"chunked")], cookie=False)
    status, _ = asyncio.run(talk.run())
    assert status == 401
    assert len(talk.given) == 40


def test_sockets_of_other_kinds_are_closed():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(guard()({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_two_explorers_do_not_share_a_cookie():
    first, second = guard(), guard()
    talk = Talk(first, "/", "GET", cookie=False)
    talk.scope["headers"].append((b"cookie", b"mammi-9=" + second._cookie.encode()))
    assert asyncio.run(talk.run())[0] == 401


def test_a_film_that_takes_too_long_is_given_up_and_the_next_is_read():
    many = b"".join(element(0x30 + (n >> 16), n & 65535, b"LO", b"") for n in range(1_500_000))
    with_time = FilmDecoder(time=1.0)
    fine = png(8, 8, small_idat())
    try:
        with_time.time = 300.0
        assert with_time.decode(fine).pixels.shape == (8, 8)  # started, so that its start is not counted
        with_time.time = 1.0
        with pytest.raises(ImageError, match="longer than 1 seconds"):
            with_time.decode(dicom(EXPLICIT, picture(8, 8), many))
        with_time.time = 300.0
        assert with_time.decode(fine).pixels.shape == (8, 8)
    finally:
        with_time.close()


def test_a_film_that_takes_too_much_memory_is_refused():
    # each of 200,000 empty items becomes an object of a kilobyte
    items = element(0x28, 0x3010, b"SQ", b"\xfe\xff\x00\xe0\0\0\0\0" * 200_000, length=0xFFFFFFFF)
    decoder = FilmDecoder(memory=2**26, time=300.0)
    try:
        with pytest.raises(ImageError, match="more memory than a film can need|broke down over it"):
            decoder.decode(dicom(EXPLICIT, picture(8, 8), items))
        assert decoder.decode(png(8, 8, small_idat())).pixels.shape == (8, 8)
    finally:
        decoder.close()


def test_films_pass_the_pipe_as_they_are(film):
    import numpy as np

    from mammi.data import read_film_bytes

    decoder = FilmDecoder()
    found = []
    try:
        threads = [threading.Thread(target=lambda: found.append(decoder.decode(film))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = read_film_bytes(film)
        assert len(found) == 3
        for got in found:
            np.testing.assert_array_equal(got.pixels, expected.pixels)
            assert (got.bits, got.warnings) == (expected.bits, expected.warnings)
    finally:
        decoder.close()


def test_a_form_is_taken_apart_byte_by_byte():
    data = bytes(range(256)) * 40 + b"\r\n--edg\r\n--"
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="frame"\r\n\r\n2\r\n'
        b'--edge\r\nContent-Disposition: form-data; name="film"; filename="x"\r\nContent-Type: a/b\r\n\r\n'
    )
    fields = form_fields("multipart/form-data; boundary=edge", body + data + b"\r\n--edge--\r\n")
    assert fields == {"frame": b"2", "film": data}


def test_addresses_hold_no_name():
    links = ExplorerLinks(["head", "a/../<b>?&"])
    assert links.page("unit", "a/../<b>?&", 3) == "/unit/1/3"
    assert links.twin("units", "a/../<b>?&", 2) == "/units.json?layer=1&page=2"
    assert links.page("units", "head", 1) == "/units?layer=0"
    assert (links.page("overview"), links.twin("overview")) == ("/", "/.json")
    assert links.twin("search", "q=a+b") == "/search.json?q=a+b"
