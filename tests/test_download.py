"""Downloads against a server of our own on 127.0.0.1 that can misbehave in every way that a network does."""

from __future__ import annotations

import hashlib
import http.server
import os
import random
import re
import socket
import struct
import threading
import time
import warnings
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest
from filelock import FileLock

from ecglib import download
from ecglib.databases import data_root
from ecglib.download import fetch, reachable
from ecglib.errors import DownloadError, EcglibError, UnknownNameError

RECORDS = ["100", "101", "102", "1020", "201"]
LISTINGS = {"RECORDS", "SHA256SUMS.txt", "ANNOTATORS"}


@dataclass
class Server:
    """A tree on the network, and the ways in which it misbehaves, by file name."""

    files: Path
    url: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # (file, Range header)
    encodings: set[str | None] = field(default_factory=set)  # Accept-Encoding headers
    drop_after: dict[str, int] = field(default_factory=dict)  # bytes of a body, then the connection closes
    drops: Counter[str] = field(default_factory=Counter)  # how many more times
    reset: bool = False  # drop by RST instead of FIN
    short: set[str] = field(default_factory=set)  # half a body without a Content-Length: a loss that HTTP cannot see
    corrupt: Counter[str] = field(default_factory=Counter)  # how many more times a byte is wrong
    status: dict[str, int] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)  # how many more times `status` is the answer
    stall: Counter[str] = field(default_factory=Counter)  # how many more times the body stops half way
    ranges: bool = True
    delay: float = 0.0  # s, before each answer
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def tree(self) -> Path:
        return self.files / "mitdb" / "1.0.0"

    def names(self) -> Counter[str]:
        return Counter(name for name, _ in self.asked)

    def ranges_of(self, name: str) -> list[str | None]:
        return [r for n, r in self.asked if n == name]


def handler(server: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # headers and body are two writes; else each answer takes 40 ms

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = server.files / unquote(self.path).lstrip("/")
            name, wanted = path.name, self.headers.get("Range")
            server.asked.append((name, wanted))
            server.encodings.add(self.headers.get("Accept-Encoding"))
            time.sleep(server.delay)
            if server.failures[name] > 0:
                server.failures[name] -= 1
                return self.answer(server.status[name])
            if path.is_dir():
                return self.answer(200)
            if not path.is_file():
                return self.answer(404)
            body, start = bytearray(path.read_bytes()), 0
            if server.corrupt[name] > 0:
                server.corrupt[name] -= 1
                body[0] ^= 1
            if wanted and server.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
                if start >= len(body):
                    return self.answer(416)
            self.body(name, bytes(body), start, partial=bool(wanted and server.ranges))

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def body(self, name: str, body: bytes, start: int, *, partial: bool) -> None:
            rest = body[start:]
            self.send_response(206 if partial else 200)
            if partial:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if name in server.short:
                rest, self.close_connection = rest[: len(rest) // 2], True
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if server.stall[name] > 0:
                server.stall[name] -= 1
                self.wfile.write(rest[: len(rest) // 2])
                server.over.wait(20)
            elif server.drops[name] > 0:
                server.drops[name] -= 1
                self.wfile.write(rest[: server.drop_after[name]])
                self.close_connection = True
                if server.reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
            else:
                self.wfile.write(rest)

    return Handler


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """A client that gave up is what some tests are about."""


def write_sums(folder: Path) -> None:
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.relative_to(folder)}\n"
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "SHA256SUMS.txt"
    ]
    (folder / "SHA256SUMS.txt").write_text("".join(lines))


def write_tree(files: Path) -> Path:
    """PhysioNet's layout with random bytes, and beside the records what else lies in such folders."""
    draw, folder = random.Random(0), files / "mitdb" / "1.0.0"
    (folder / "x_mitdb").mkdir(parents=True)
    for record in RECORDS:
        for kind in ("hea", "atr", "dat", "xws"):
            (folder / f"{record}.{kind}").write_bytes(draw.randbytes(draw.randint(900, 3000)))
    for name in ("102-0.atr", "203.at-", "201.at_", "101.hea-", "mitdb.htm", "x_mitdb/x_100.hea"):
        (folder / name).write_bytes(draw.randbytes(50))
    (folder / "RECORDS").write_text("".join(f"{r}\n" for r in RECORDS))
    (folder / "ANNOTATORS").write_text("atr\treference beat annotations\n")
    write_sums(folder)
    return folder


def serve(server: Server) -> http.server.ThreadingHTTPServer:
    http_server = Quiet(("127.0.0.1", 0), handler(server))
    server.url = f"http://127.0.0.1:{http_server.server_address[1]}/"
    threading.Thread(target=http_server.serve_forever, args=(0.02,), daemon=True).start()
    return http_server


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """No proxy, and no waiting for the disk (one test looks at that)."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "files")
    write_tree(server.files)
    http_server = serve(server)
    yield server
    server.over.set()
    http_server.shutdown()
    http_server.server_close()


@pytest.fixture
def get(server, tmp_path):
    """``fetch`` of mitdb from the server into an empty root, with short waits."""

    def get(**options):
        options = {"base_url": server.url, "backoff": 0.01, "timeout": 5.0, "progress": False} | options
        return fetch("mitdb", root=tmp_path / "data", **options)

    return get


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder but the lock."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found.pop(".lock", None)
    return found


def belonging(folder: Path, *records: str, missing: Collection[str] = ()) -> dict[str, bytes]:
    """What a fetch of these records should bring."""
    names = LISTINGS | {f"{r}.{kind}" for r in records for kind in ("hea", "atr", "dat")}
    names |= {"102-0.atr"} if "102" in records else set()
    return {name: (folder / name).read_bytes() for name in names.difference(missing)}


def test_without_signals(get, server):
    """Headers and annotations of every record: what a count needs."""
    found = content(get(signals=False))
    expected = belonging(server.tree, *RECORDS)
    assert found == {name: b for name, b in expected.items() if not name.endswith(".dat")}
    assert {f"{r}.atr" for r in RECORDS} < set(found)
    assert content(get(records=["100"])) == found | belonging(server.tree, "100")  # the signal comes when it is wanted


def failure(call, **options) -> str:
    with pytest.raises(DownloadError) as caught:
        call(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- What comes ------------------------------------------------------------------------------------------------------


def test_everything_comes_and_nothing_else(server, get, tmp_path):
    folder = get()
    assert folder == tmp_path / "data" / "mitdb" / "1.0.0"
    assert content(folder) == belonging(server.tree, *RECORDS)
    assert set(server.names().values()) == {1}
    assert server.encodings == {"identity"}  # a gzipped body would have another length and sum than the file


def test_a_second_run_asks_only_for_the_sums(server, get):
    get()
    server.asked.clear()
    get()
    assert server.asked == [("SHA256SUMS.txt", None)]


def test_subset_takes_no_namesake(server, get):
    assert content(get(records=["102"])) == belonging(server.tree, "102")
    assert content(get(records=("1020",))) == belonging(server.tree, "102", "1020")
    assert server.names()["102.dat"] == 1


def test_bytes_are_on_the_disk_before_a_file_has_its_name(get, monkeypatch):
    synced: set[int] = set()
    moved: dict[str, bool] = {}
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))

    def watch(source: Path, target: Path) -> None:
        moved[target.name] = source.stat().st_ino in synced and source.name == f"{target.name}.part"
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    get(records=["100"])
    assert moved == dict.fromkeys(LISTINGS | {"100.hea", "100.atr", "100.dat"}, True)


def test_one_record_may_be_a_plain_string(server, get):
    assert content(get(records="201")) == belonging(server.tree, "201")


def test_unknown_record(server, get):
    with pytest.raises(UnknownNameError, match="unknown record '1002'; did you mean '102'"):
        get(records=["100", "1002"])
    assert not any(name.endswith(".dat") for name in server.names())


def test_a_record_with_a_hyphen_keeps_its_own_file(server, get):
    (server.tree / "RECORDS").write_text("100\n102\n102-0\n")
    write_sums(server.tree)
    assert "102-0.atr" not in content(get(records=["102"]))
    assert "102-0.atr" in content(get(records=["102-0"]))


def test_records_missing_gives_the_headers_of_the_sums(server, get):
    (server.tree / "RECORDS").unlink()  # still listed in the sums, as nstdb's is on a partial mirror
    assert content(get(records=["1020"])) == belonging(server.tree, "1020", missing={"RECORDS"})
    assert content(get()) == belonging(server.tree, *RECORDS, missing={"RECORDS"})


def test_record_without_files_in_the_sums(server, get):
    (server.tree / "RECORDS").write_text("100\n777\n")
    write_sums(server.tree)
    assert "'777'" in failure(get)


def test_without_sums_files_are_checked_by_size_and_a_warning_says_so(server, get):
    (server.tree / "SHA256SUMS.txt").unlink()
    server.drop_after, server.drops = {"100.dat": 600}, Counter({"100.dat": 1})
    with pytest.warns(UserWarning, match="checked by size only") as caught:
        folder = get(records=["100", "201"])
    assert len(caught) == 1
    assert content(folder) == belonging(server.tree, "100", "201", missing={"SHA256SUMS.txt", "ANNOTATORS"})
    assert server.ranges_of("100.dat") == [None, "bytes=600-"]


def test_no_warning_with_sums(get):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get(records=["100"])


def test_base_url_needs_no_slash(server, get):
    assert "100.dat" in content(get(records=["100"], base_url=server.url.rstrip("/")))


def test_names_are_quoted_in_urls(server, get):
    (server.tree / "100.a#b%20c").write_bytes(b"odd")
    write_sums(server.tree)
    assert content(get(records=["100"]))["100.a#b%20c"] == b"odd"


def test_sums_in_other_dialects(server, get):
    path = server.tree / "SHA256SUMS.txt"
    path.write_text(re.sub(r"^(\w+) ", lambda m: f"{m[1].upper()} *./", path.read_text(), flags=re.M) + "\n")
    assert set(content(get(records=["100"]))) == {"100.hea", "100.atr", "100.dat"} | LISTINGS


def test_progress_bar_counts_the_files(server, get, capsys):
    get(records=["100"], progress=False)
    assert capsys.readouterr() == ("", "")
    get(records=["100"], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "mitdb" in err
    assert "4/4" in err  # hea, atr, dat, ANNOTATORS


# ---- What goes wrong and mends ---------------------------------------------------------------------------------------


def test_resume_asks_for_the_rest(server, get, tmp_path):
    whole, folder = (server.tree / "100.dat").read_bytes(), tmp_path / "data" / "mitdb" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "100.dat.part").write_bytes(whole[:500])
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.ranges_of("100.dat") == ["bytes=500-"]


def test_resume_where_the_server_ignores_range(server, get, tmp_path):
    whole, folder = (server.tree / "100.dat").read_bytes(), tmp_path / "data" / "mitdb" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "100.dat.part").write_bytes(whole[:500])
    server.ranges = False
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.ranges_of("100.dat") == ["bytes=500-"]


@pytest.mark.parametrize("extra", [b"", b"more than the file has"])
def test_part_of_full_length_starts_over(server, get, tmp_path, extra):
    whole, folder = (server.tree / "100.dat").read_bytes(), tmp_path / "data" / "mitdb" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "100.dat.part").write_bytes(whole + extra)
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.ranges_of("100.dat") == [f"bytes={len(whole + extra)}-", None]


def test_part_of_another_file_starts_over(server, get, tmp_path):
    folder = tmp_path / "data" / "mitdb" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "100.dat.part").write_bytes(b"x" * 500)
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.ranges_of("100.dat") == ["bytes=500-", None]


def test_dropped_connections_are_resumed(server, get):
    server.drop_after, server.drops = (
        {"100.dat": 300, "SHA256SUMS.txt": 700},
        Counter({"100.dat": 2, "SHA256SUMS.txt": 1}),
    )
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.ranges_of("100.dat") == [None, "bytes=300-", "bytes=600-"]
    assert server.ranges_of("SHA256SUMS.txt") == [None, "bytes=700-"]


def test_reset_connections_are_retried(server, get):
    server.reset, server.drop_after, server.drops = True, {"100.dat": 300}, Counter({"100.dat": 2})
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.names()["100.dat"] == 3


def test_dropped_connections_use_up_the_retries_and_leave_the_part(server, get):
    server.drop_after, server.drops = {"100.dat": 100}, Counter({"100.dat": 99})
    message = failure(get, records=["100"], retries=3)
    assert message.startswith(f"cannot reach {server.url}: Connection broken: ")
    assert ", at 100.dat; " in message
    assert server.names()["100.dat"] == 4
    folder = server.files.parent / "data" / "mitdb" / "1.0.0"
    assert not (folder / "100.dat").exists()
    assert (folder / "100.dat.part").read_bytes() == (server.tree / "100.dat").read_bytes()[:400]
    server.drops.clear()
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.ranges_of("100.dat")[-1] == "bytes=400-"


def test_a_body_cut_without_notice_is_found_by_its_sum(server, get):
    server.short = {"100.dat"}
    assert "100.dat: wrong SHA-256" in failure(get, records=["100"])
    assert "100.dat" not in content(server.files.parent / "data" / "mitdb" / "1.0.0")


def test_a_byte_wrong_once_mends(server, get):
    server.corrupt = Counter({"100.dat": 1})
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.ranges_of("100.dat") == [None, None]


def test_a_byte_always_wrong_is_an_error_that_names_the_file(server, get):
    server.corrupt = Counter({"100.dat": 99})
    message = failure(get)
    body = bytearray((server.tree / "100.dat").read_bytes())
    right = hashlib.sha256(body).hexdigest()
    body[0] ^= 1
    assert f"expected {right[:12]}…, received {hashlib.sha256(body).hexdigest()[:12]}…" in message
    assert f"{server.url}mitdb/1.0.0/100.dat: wrong SHA-256 twice" in message
    assert server.names()["100.dat"] == 2
    assert not {"100.dat", "100.dat.part"} & set(content(server.files.parent / "data" / "mitdb" / "1.0.0"))


def test_a_damaged_file_here_is_fetched_again(server, get):
    folder = get(records=["100"])
    damaged = folder / "100.atr"
    damaged.write_bytes(b"?" + damaged.read_bytes()[1:])
    (folder / "RECORDS").write_text("100\n")
    server.asked.clear()
    assert content(get(records=["100"])) == belonging(server.tree, "100")
    assert server.names() == Counter(["SHA256SUMS.txt", "RECORDS", "100.atr"])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, get, status):
    names = ["SHA256SUMS.txt", "101.dat"]
    server.status, server.failures = dict.fromkeys(names, status), Counter(dict.fromkeys(names, 2))
    assert content(get(records=["101"])) == belonging(server.tree, "101")
    assert [server.names()[n] for n in names] == [3, 3]


def test_a_server_that_stays_busy(server, get):
    server.status, server.failures = {"101.dat": 503}, Counter({"101.dat": 99})
    assert "503" in (message := failure(get, retries=2))
    assert "101.dat" in message
    assert server.names()["101.dat"] == 3


def test_waits_grow_and_differ(monkeypatch):
    waits: list[float] = []
    mirror = download._Mirror("", "", Path(), FakeSession(), 4, 1.0, 0.5)  # type: ignore[arg-type]
    monkeypatch.setattr(mirror.stop, "wait", waits.append)
    with pytest.raises(DownloadError, match="no luck"):
        mirror._fill(Path("never.part"), "http://127.0.0.1/")
    assert len(waits) == 4
    for k, wait in enumerate(waits):
        assert 0.25 * 2**k <= wait <= 0.5 * 2**k
    assert len({wait / 2**k for k, wait in enumerate(waits)}) == 4


class FakeSession:
    def get(self, *args: object, **options: object) -> None:
        raise download.requests.ConnectionError("no luck")


def test_the_seeded_generator_of_the_reader_is_left_alone(server, get):
    server.drop_after, server.drops = {"100.dat": 300}, Counter({"100.dat": 1})
    random.seed(1)
    get(records=["100"])
    after = random.random()
    random.seed(1)
    assert after == random.random()


# ---- What does not mend ----------------------------------------------------------------------------------------------


def test_a_listed_file_that_is_not_there_is_an_error_at_once(server, get):
    (server.tree / "100.dat").unlink()
    message = failure(get, records=["100"])
    assert f"{server.url}mitdb/1.0.0/100.dat: HTTP 404" in message
    assert server.names()["100.dat"] == 1


def test_refused_access_is_an_error_at_once(server, get):
    server.status, server.failures = {"SHA256SUMS.txt": 403}, Counter({"SHA256SUMS.txt": 99})
    assert "SHA256SUMS.txt: HTTP 403" in failure(get)
    assert server.asked == [("SHA256SUMS.txt", None)]


def test_nothing_there_at_all(server, get):
    assert f"at {server.url}elsewhere/mitdb/1.0.0/; check base_url" in failure(get, base_url=f"{server.url}elsewhere")


def test_the_first_failure_ends_the_others(server, get):
    (server.tree / "100.atr").unlink()  # the first file that is listed
    server.delay = 0.05
    assert "100.atr: HTTP 404" in failure(get, jobs=2)
    assert len(server.asked) < 10  # of 20


def test_the_first_failure_wakes_those_that_wait(server, get):
    (server.tree / "100.dat").unlink()
    server.status, server.failures, start = {"100.atr": 503}, Counter({"100.atr": 99}), time.monotonic()
    assert "100.dat: HTTP 404" in failure(get, records=["100"], backoff=20.0)
    assert time.monotonic() - start < 5


def test_a_body_on_its_way_is_given_up_when_another_file_has_failed(server, tmp_path):
    with download.requests.Session() as session:
        mirror = download._Mirror(server.url, f"{server.url}mitdb/1.0.0/", tmp_path, session, 0, 5.0, 0.0)
        mirror.stop.set()
        assert "stopped" in failure(mirror.bring, file="100.dat", expected=None)
    assert not (tmp_path / "100.dat").exists()


def test_half_a_listing_from_an_earlier_run_is_forgotten(server, get, tmp_path):
    folder = tmp_path / "data" / "mitdb" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS.txt.part").write_text(f"{'0' * 64} 100.old\n")
    (folder / "SHA256SUMS.txt").write_text(f"{'0' * 64} 100.dat\n")
    assert content(get(records=["100"])) == belonging(server.tree, "100")


def test_a_login_page_is_no_listing(server, get):
    (server.tree / "SHA256SUMS.txt").write_text("<!doctype html>\n<title>Welcome to our guest network</title>\n")
    assert "SHA256SUMS.txt is no list of sums: '<!doctype html>'; check base_url" in failure(get)


@pytest.mark.parametrize(
    "name",
    ["../100.dat", "/etc/100.dat", "sub/../../100.dat", "..\\100.dat", "C:/100.dat", "100\0.dat", "./../100.dat"],
)
@pytest.mark.parametrize("listing", ["RECORDS", "SHA256SUMS.txt"])
def test_names_cannot_leave_the_folder(server, get, name, listing):
    with open(server.tree / listing, "a", newline="") as file:
        file.write(f"{name}\n" if listing == "RECORDS" else f"{'0' * 64} {name}\n")
    if listing == "RECORDS":
        write_sums(server.tree)
    message = failure(get)
    assert "outside" in message
    assert repr(name.removeprefix("./"))[1:-1] in message
    assert set(server.names()) == {"SHA256SUMS.txt", "RECORDS"}


def test_a_listed_part_file_is_not_taken(server, get):
    (server.tree / "100.dat.part").write_bytes(b"in the way")
    write_sums(server.tree)
    assert content(get(records=["100"], jobs=1)) == belonging(server.tree, "100")


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=f"cannot write {tmp_path}/data/mitdb/1.0.0: .*; give another root"):
        fetch("mitdb", root=tmp_path / "data", base_url=server.url)
    assert server.asked == []


def test_file_that_cannot_be_written(get, tmp_path):
    (tmp_path / "data/mitdb/1.0.0/100.dat.part").mkdir(parents=True)
    assert f"cannot write {tmp_path}/data/mitdb/1.0.0: " in failure(get, records=["100"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_must_not_be_written(get, tmp_path):
    (tmp_path / "data").mkdir(mode=0o500)
    assert f"cannot write {tmp_path}/data/mitdb/1.0.0: " in failure(get)


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_unreachable_host_is_told_without_waiting(get):
    url, start = f"http://127.0.0.1:{closed_port()}", time.monotonic()
    message = failure(get, base_url=url, backoff=5.0)
    assert message.startswith(f"cannot reach {url}: ")
    assert "refused" in message
    assert message.endswith("; give base_url of a mirror or set ECGLIB_DATA")
    assert time.monotonic() - start < 3


def test_host_that_goes_away_later_is_waited_for(server, monkeypatch):
    """A connection refused once the host has answered may be a short outage: it uses retries."""
    mirror = download._Mirror(server.url, "http://127.0.0.1:1/", Path(), download.requests.Session(), 2, 1.0, 0.0)
    mirror.answered.set()
    waits: list[float] = []
    monkeypatch.setattr(mirror.stop, "wait", waits.append)
    with pytest.raises(DownloadError, match="cannot reach"):
        mirror._fill(Path("never.part"), f"http://127.0.0.1:{closed_port()}/x")
    assert len(waits) == 2


@pytest.mark.parametrize("name", ["SHA256SUMS.txt", "100.dat"])
def test_a_silent_server_times_out(server, get, name):
    server.stall, start = Counter({name: 99}), time.monotonic()
    message = failure(get, records=["100"], timeout=0.2, retries=1)
    assert "timed out" in message
    assert server.names()[name] == 2
    assert time.monotonic() - start < 5


def test_a_server_that_falls_silent_once(server, get):
    server.stall = Counter({"100.dat": 1})
    assert content(get(records=["100"], timeout=0.2)) == belonging(server.tree, "100")


@pytest.mark.parametrize("url", ["file:///", "ftp://127.0.0.1/", "physionet.org/files", "", "http://"])
def test_only_http(get, url):
    assert f"cannot reach {url}: " in failure(get, base_url=url, backoff=5.0)


def test_the_phantom_is_not_downloaded(tmp_path):
    with pytest.raises(DownloadError, match=r"write it with ecglib\.phantom\.write"):
        fetch("phantom", root=tmp_path)
    with pytest.raises(UnknownNameError, match="did you mean 'mitdb'"):
        fetch("mitbd", root=tmp_path)


@pytest.mark.parametrize("bad", [{"jobs": 0}, {"retries": -1}, {"timeout": 0.0}, {"backoff": -1.0}])
def test_impossible_settings(get, bad):
    with pytest.raises(EcglibError, match="{}={}".format(*next(iter(bad.items())))):
        get(**bad)


# ---- Two at once, and the probe --------------------------------------------------------------------------------------


def test_two_at_once_fetch_each_file_once(server, get):
    server.delay = 0.01
    with ThreadPoolExecutor(2) as pool:
        first, _ = pool.map(lambda _: get(records=["100", "101"]), range(2))
    assert content(first) == belonging(server.tree, "100", "101")
    assert server.names().pop("SHA256SUMS.txt") == 2
    assert all(n == 1 for name, n in server.names().items() if name != "SHA256SUMS.txt")


def test_a_fetch_waits_for_the_lock(server, get, tmp_path):
    folder = tmp_path / "data" / "mitdb" / "1.0.0"
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(folder / ".lock"):
            waiting = pool.submit(get, records=["100"])
            time.sleep(0.3)
            assert server.asked == []
        assert content(waiting.result(10)) == belonging(server.tree, "100")


def test_reachable(server):
    assert reachable(server.url)
    assert not reachable(f"http://127.0.0.1:{closed_port()}/", timeout=1.0)
    assert not reachable("file:///")
    server.failures, server.status = Counter({"files": 1}), {"files": 502}
    assert not reachable(server.url)
    server.delay = 2.0
    assert not reachable(server.url, timeout=0.1)


# ---- Real records ----------------------------------------------------------------------------------------------------

REAL = data_root()


@pytest.mark.data
@pytest.mark.skipif(
    "ECGLIB_DATA" not in os.environ or not (REAL / "mitdb/1.0.0/SHA256SUMS.txt").is_file(),
    reason="ECGLIB_DATA does not hold mitdb with its sums",
)
def test_real_records(tmp_path):
    server = Server(REAL)
    http_server = serve(server)
    try:
        folder = fetch("mitdb", root=tmp_path, records=["100", "208"], base_url=server.url, progress=False)
    finally:
        http_server.shutdown()
        http_server.server_close()
    assert content(folder) == belonging(REAL / "mitdb" / "1.0.0", "100", "208")
