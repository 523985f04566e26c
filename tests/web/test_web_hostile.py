"""A real server on the loopback address against whoever reaches it: each refused in words, and it goes on answering."""

import contextlib
import io
import json
import os
import re
import resource
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hostile_films import HOSTILE
from mammi.web.guard import MAX_BODY
from web.conftest import MARKUP

#: MiB that server and decoder may hold at most beyond what they hold when all is loaded; the decoder alone may hold 1 GiB.
GROWTH = 1000


def ask(server, head, *parts, timeout=60):
    """Send bytes as they are, read the answer to its end; return status, headers and body."""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout)) as connection:
        connection.settimeout(timeout)
        connection.sendall(head)
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it said its word before we said all of ours
        data = bytearray()
        while piece := connection.recv(2**16):
            data += piece
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def request(server, target="/", method="GET", **headers):
    fields = {"Host": f"127.0.0.1:{server.port}", "Connection": "close", "Cookie": server.cookie} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def get(server, target="/", **headers):
    return ask(server, request(server, target, **headers))


def form(data, name="a.png"):
    return (
        b'--edge\r\nContent-Disposition: form-data; name="film"; filename="' + name.encode() + b'"\r\n\r\n'
        + data
        + b"\r\n--edge--\r\n"
    )  # fmt: skip


def post(server, body, target="/film.json", **headers):
    fields = {
        "Origin": f"http://127.0.0.1:{server.port}",
        "Sec-Fetch-Site": "same-origin",
        "Content-Type": "multipart/form-data; boundary=edge",
        "Content-Length": str(len(body)),
    } | headers
    return ask(server, request(server, target, "POST", **fields), body)


def children(server):
    """Processes that the server started, by whichever of its threads."""
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


def held(server):
    """MiB in memory of the server and of its decoder, and the most that either ever held."""
    now = most = 0.0
    for process in [str(server.process.pid), *children(server)]:
        status = Path(f"/proc/{process}/status").read_text()
        now += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
        most += int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    return now, most


@pytest.fixture(scope="module")
def open_server(server):
    """The server, entered with its link, its models loaded."""
    server.cookie = None
    head = request(server, server.link[server.link.index("/?") :])
    status, headers, _ = ask(server, head)
    assert (status, headers["location"]) == (303, "/")
    server.set_cookie = headers["set-cookie"]
    server.cookie = server.set_cookie.split(";")[0]
    deadline = time.monotonic() + 60
    while b"being loaded" in get(server, "/film")[2]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return server


@pytest.fixture(autouse=True)
def answers_afterwards(open_server):
    """After every attack the server is there, and lets a page out."""
    yield
    assert open_server.process.poll() is None
    status, _, body = get(open_server, "/method")
    assert status == 200
    assert b"not a diagnostic device" in body


def test_the_link_lets_in_and_leaves_the_address(open_server):
    server = open_server
    assert "HttpOnly" in server.set_cookie
    assert "SameSite=Strict" in server.set_cookie
    assert server.token not in server.set_cookie
    status, headers, body = ask(server, request(server, f"/unit/0/3?token={server.token}&a=1", Cookie=None))
    assert (status, headers["location"], body) == (303, "/unit/0/3?a=1", b"")
    # from a page of another site a redirect would lose the cookie: there a page leads on
    status, headers, body = ask(
        server,
        request(
            server,
            f"/?token={server.token}",
            Cookie=None,
            Sec_Fetch_Site="cross-site",
            Sec_Fetch_Mode="navigate",
            Sec_Fetch_Dest="document",
        ),
    )
    assert status == 200
    assert b"url=/" in body


@pytest.mark.parametrize("target", ["/", "/unit/0/1", "/search.json?q=heart", "/assets/style.css", "/films/x.jpg"])
@pytest.mark.parametrize("cookie", [None, "", "mammi=1", "mammi-{port}=", "mammi-{port}=wrong", "mammi-{port}"])
def test_without_the_cookie_nothing_is_shown(open_server, target, cookie):
    value = None if cookie is None else cookie.format(port=open_server.port)
    status, headers, body = get(open_server, target, Cookie=value)
    assert status == 401
    assert b"mammi serve" in body
    assert headers["content-type"].startswith("application/json" if ".json" in target else "text/html")


@pytest.mark.parametrize("token", ["", "x", "é" * 43, "A" * 43, "%00", "A" * 3000])
def test_a_wrong_token_does_not_let_in(open_server, token):
    status, headers, _ = get(open_server, f"/?token={token}".encode().decode("latin-1"), Cookie=None)
    assert status in (400, 401)  # letters beyond ASCII are no address at all
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example:{port}", ""]
)
def test_a_foreign_name_that_points_here_is_refused(open_server, host):
    status, _, body = get(open_server, "/", Host=host.format(port=open_server.port))
    assert status in (400, 403)
    assert b"units" not in body


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "LOCALHOST:{port}"])
def test_own_names_are_taken(open_server, host):
    assert get(open_server, "/method", Host=host.format(port=open_server.port))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "null", "Sec_Fetch_Site": None},
        {"Origin": None},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "https://127.0.0.1:{port}"},
    ],
)
def test_an_upload_from_a_foreign_page_is_refused(open_server, headers):
    fields = {name.replace("_", "-"): value and value.format(port=open_server.port) for name, value in headers.items()}
    assert post(open_server, form(b"x"), **fields)[0] == 403


def test_an_upload_of_a_page_without_referrer_is_taken(open_server):
    assert post(open_server, form(b"x"), Origin="null")[0] == 422  # it was looked at


@pytest.mark.parametrize("mode", ["no-cors", "cors", "websocket"])
def test_parts_of_pages_are_not_for_other_sites(open_server, mode):
    for site in ("cross-site", "same-site"):
        assert get(open_server, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest="image")[0] == 403


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/../../../etc/passwd", 400),
        ("/assets/../../site.py", 400),
        ("/assets/%2e%2e/%2e%2e/site.py", 400),
        ("/assets/..%2f..%2fsite.py", 400),
        ("/assets/..\\..\\site.py", 400),
        ("/assets/%5c..%5csite.py", 400),
        ("/assets/style.css%00.png", 400),
        ("/assets//style.css", 400),
        ("//etc/passwd", 400),
        ("/./", 400),
        ("http://evil.example/", 400),
        ("/films/..%2f..%2fprivate%2ffilms.json", 400),
        ("/films/private/films.json", 404),
        ("/films/../private/films.json", 400),
        ("/private/films.json", 404),
        ("/unit/0/1%0d%0aset-cookie:x=1", 400),
        ("/<script>", 400),
        ("/%3Cscript%3E", 400),
        ("/~root", 400),
        ("/;a=b", 400),
        ("*", 400),
        ("/" + "a" * 5_000, 414),
        ("/search?q=" + "a" * 5_000, 414),
        ("/?" + "&".join(f"a{n}=1" for n in range(300)), 400),
        ("/search?q=%00%01%ff", 200),
        ("/" + "a/" * 1_500, 404),
    ],
)
def test_paths_lead_nowhere(open_server, target, status):
    got, headers, body = get(open_server, target)
    assert got == status
    assert b"root:" not in body
    assert b"Traceback" not in body
    assert b"<script>" not in body
    assert "set-cookie" not in headers


def test_a_head_longer_than_any_ends_the_connection(open_server):
    with closing(socket.create_connection(("127.0.0.1", open_server.port), 20)) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000)
            answer = connection.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "head", [b"\x16\x03\x01\0\0", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"\0" * 99 + b"\r\n\r\n"]
)
def test_what_is_no_request_is_refused(open_server, head):
    assert ask(open_server, head + b"\r\n\r\n")[0] == 400


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_only_looking_and_uploading_is_done(open_server, method):
    status, headers, _ = ask(open_server, request(open_server, "/", method))
    assert status == 405
    assert headers["allow"] == "GET, HEAD"
    assert "access-control-allow-origin" not in headers


def test_nothing_can_be_sent_to_a_page(open_server):
    assert post(open_server, b"x", "/unit/0/1")[0] == 405


def test_a_head_has_no_body(open_server):
    status, headers, body = ask(open_server, request(open_server, "/method", "HEAD"))
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 100


@pytest.mark.parametrize("target", ["/", "/unit/1/2", "/nothing", "/search.json?q=heart", "/assets/site.js", "/../"])
def test_every_answer_carries_the_headers(open_server, target):
    _, headers, _ = get(open_server, target)
    policy = headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if target.startswith("/assets") else "no-store")
    assert "server" not in headers


def test_a_websocket_is_not_opened(open_server):
    upgrade = {
        "Upgrade": "websocket",
        "Sec_WebSocket_Key": "x",
        "Sec_WebSocket_Version": "13",
        "Connection": "Upgrade, close",
    }
    assert get(open_server, "/", **upgrade)[0] == 200  # a page like any other


ZEROS = bytes(2**20)


def test_an_upload_of_200_mb_is_refused_by_its_length(open_server):
    _, before = held(open_server)
    head = request(
        open_server,
        "/film",
        "POST",
        Origin=f"http://127.0.0.1:{open_server.port}",
        Content_Type="multipart/form-data; boundary=edge",
        Content_Length=str(200 * 2**20),
    )
    status, headers, body = ask(open_server, head, *[ZEROS] * 200)
    assert status == 413
    assert b"64 MiB" in body
    assert headers["connection"] == "close"
    assert held(open_server)[1] - before < 100


def test_an_upload_of_200_mb_in_chunks_is_refused_by_its_bytes(open_server):
    _, before = held(open_server)
    head = request(
        open_server,
        "/film.json",
        "POST",
        Origin=f"http://127.0.0.1:{open_server.port}",
        Content_Type="multipart/form-data; boundary=edge",
        Transfer_Encoding="chunked",
    )
    chunk = b"100000\r\n" + ZEROS + b"\r\n"
    status, _, body = ask(open_server, head, *[chunk] * 200, b"0\r\n\r\n")
    assert status == 413
    assert json.loads(body)["status"] == 413
    assert held(open_server)[1] - before < MAX_BODY / 2**20 + 120


def test_a_client_that_asks_first_is_told_before_it_sends(open_server):
    head = request(
        open_server,
        "/film",
        "POST",
        Origin=f"http://127.0.0.1:{open_server.port}",
        Content_Length=str(200 * 2**20),
        Expect="100-continue",
    )
    assert ask(open_server, head)[0] == 413


def test_lengths_that_lie_are_refused(open_server):
    for length in ("-1", "1e9", "0x10", "9" * 400, "5, 6"):
        assert post(open_server, b"", **{"Content-Length": length})[0] in (400, 413)
    both = {"Content-Length": "5", "Transfer-Encoding": "chunked"}
    assert post(open_server, b"0\r\n\r\n", **both)[0] == 400


def test_an_upload_that_breaks_off_is_forgotten(open_server):
    head = request(
        open_server, "/film", "POST", Origin=f"http://127.0.0.1:{open_server.port}", Content_Length=str(10**6)
    )
    for _ in range(12):  # more than there are places
        with closing(socket.create_connection(("127.0.0.1", open_server.port))) as connection:
            connection.sendall(head + b"x" * 1000)
    time.sleep(0.3)
    assert post(open_server, form(b"x"))[0] == 422


def test_more_uploads_than_places_are_sent_away(open_server, film):
    head = request(
        open_server,
        "/film",
        "POST",
        Origin=f"http://127.0.0.1:{open_server.port}",
        Content_Type="multipart/form-data; boundary=edge",
        Content_Length=str(10**6),
    )
    waiting = [socket.create_connection(("127.0.0.1", open_server.port)) for _ in range(4)]
    try:
        for connection in waiting:
            connection.sendall(head)
        time.sleep(0.5)
        status, headers, body = post(open_server, form(film))
        assert status == 503
        assert headers["retry-after"]
        assert json.loads(body)["reason"]
        assert get(open_server, "/units")[0] == 200  # pages go on
    finally:
        for connection in waiting:
            connection.close()
    time.sleep(0.3)
    assert post(open_server, form(film))[0] == 200


def test_many_uploads_at_once_are_answered_or_sent_away(open_server, film):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(post(open_server, form(film), "/search.json")[0]))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 12
    assert set(found) <= {200, 503}
    assert found.count(200) >= 4


def test_hostile_films_are_refused_and_memory_stays_bounded(open_server):
    loaded, _ = held(open_server)
    for name, make in HOSTILE.items():
        status, headers, body = post(open_server, form(make(), f"{MARKUP}.png"))
        assert status in (200, 400, 422), (name, status, body[:300])
        assert headers["content-type"] == "application/json", name
        said = json.loads(body)
        if status != 200:
            assert said["reason"], name
            assert "script>.png" not in said["reason"], name
            assert "Traceback" not in said["reason"], name
    now, most = held(open_server)
    assert most - loaded < GROWTH, f"{most - loaded:.0f} MiB at the most"
    assert now - loaded < 300, f"{now - loaded:.0f} MiB are kept"


def test_broken_dicom_files_are_refused(open_server, shared_data):
    paths = sorted((shared_data / "dicom" / "broken").iterdir())
    assert len(paths) >= 15
    for path in paths:
        status, _, body = post(open_server, form(path.read_bytes(), path.name))
        assert status in (400, 422), path.name
        assert path.stem not in json.loads(body)["reason"]


def test_a_page_of_a_refused_film_holds_no_markup_of_it(open_server):
    status, _, body = post(open_server, form(HOSTILE["dicom with markup for a photometric"]()), "/film")
    assert status == 422
    assert b"<script>" not in body


def test_a_decoder_that_dies_is_replaced(open_server, film):
    assert post(open_server, form(film), "/search.json")[0] == 200
    (child,) = children(open_server)
    os.kill(int(child), 9)
    time.sleep(0.3)
    assert post(open_server, form(film), "/search.json")[0] == 200


def test_nothing_of_what_was_asked_is_said(open_server, film):
    get(open_server, "/search?q=confidential+words")
    post(open_server, form(film, "Doe, Jane 47-11.png"))
    said = "".join(open_server.said)
    for trace in ("confidential", "Doe, J", "47-11", open_server.token, "GET /"):
        assert trace not in said


def test_nobody_but_this_machine_can_connect(open_server):
    listening = Path("/proc/net/tcp").read_text()
    port = f"{open_server.port:04X}"
    assert [line.split()[1] for line in listening.splitlines()[1:] if line.split()[1].endswith(f":{port}")
            and line.split()[3] == "0A"] == [f"0100007F:{port}"]  # fmt: skip


def test_many_silent_connections_do_not_keep_a_page_from_its_reader(open_server):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    silent = [socket.create_connection(("127.0.0.1", open_server.port)) for _ in range(min(150, soft // 4))]
    try:
        assert get(open_server, "/method")[0] == 200
    finally:
        for connection in silent:
            connection.close()


def test_a_later_request_that_never_ends_does_not_keep_its_connection(monkeypatch):
    """Letter by letter, after a first request that was whole: no token is needed for that."""
    import asyncio

    import uvicorn

    from mammi.web import serve as serving

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"x"})

    async def attack():
        config = uvicorn.Config(page, port=0, lifespan="off", http=serving._Impatient, log_level="error")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
        whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(2):  # whole requests one after the other are served
            writer.write(whole)
            await reader.readuntil(b"\r\n\r\nx")
            await asyncio.sleep(0.2)
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and asyncio.get_running_loop().time() < began + 5:
                writer.write(b"G")
                await asyncio.sleep(0.05)
        lasted = asyncio.get_running_loop().time() - began
        writer.close()
        server.should_exit = True
        await running
        return lasted

    monkeypatch.setattr(serving, "PATIENCE", 0.6)
    assert asyncio.run(attack()) < 2


def test_a_strip_is_refused_and_takes_no_memory(open_server):
    """Small as a file, and 26 GB on the way to the network's input."""
    loaded, _ = held(open_server)
    strip = io.BytesIO()
    Image.fromarray(np.zeros((20_000_000, 1), np.uint8)).save(strip, "PNG")
    status, _, body = post(open_server, form(strip.getvalue()))
    assert status == 422
    assert "a strip and no film" in json.loads(body)["reason"]
    assert held(open_server)[1] - loaded < GROWTH


def test_a_taken_port_is_said_in_a_line(run):
    from mammi.errors import InputError
    from mammi.web.serve import serve

    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="choose another --port"):
            serve(run, port=taken.getsockname()[1])
