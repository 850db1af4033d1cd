"""Tests for process.py, with real HTTP servers on free ports of this machine.

    python3 -m unittest discover -s examples/subway-inspection

Tests that measure photographs need Pillow (run prepare.py) and are skipped without it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import process  # noqa: E402

PHOTOS = HERE / "photos"
REQUEST = json.loads((HERE / "request.json").read_text(encoding="utf-8"))
PLACEHOLDER_BASE = "http://127.0.0.1:9400/"

needs_pillow = unittest.skipUnless(process.Image, "needs Pillow: run prepare.py")


def photo(name: str) -> bytes:
    return (PHOTOS / name).read_bytes()


def png(width: int, height: int, depth: int = 8, row: bytes = b"") -> bytes:
    """A grey PNG whose rows are all alike."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = (b"\0" + (row or bytes(width * depth // 8))) * height
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (
        process.PNG_START + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


class Store(ThreadingHTTPServer):
    """An image store that misbehaves as told: a path has a status, headers and a body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        super().__init__(("127.0.0.1", 0), StoreHandler)
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def put(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        self.answers["/" + path] = (status, headers, body)
        return self.url(path)

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class StoreHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, headers, body = self.server.answers.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


class StoreTest(unittest.TestCase):
    def setUp(self) -> None:
        self.store = Store()
        self.addCleanup(self.store.close)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.enterContextOf(mock.patch.dict(os.environ, self.environment()))

    def enterContextOf(self, patch) -> None:  # enterContext needs Python 3.11
        patch.start()
        self.addCleanup(patch.stop)

    def environment(self) -> dict[str, str]:
        return {
            "no_proxy": "127.0.0.1",
            "PROCESSION_ARTIFACTS": str(self.folder / "artifacts"),
            "PROCESSION_RESULT": str(self.folder / "result"),
            "PROCESSION_PROGRESS": str(self.folder / "progress"),
        }

    def run_main(self, *images: tuple[str, object], **fields: object) -> int:
        shots = [{"location": location, "imageUrl": url} for location, url in images]
        data = json.dumps({**REQUEST, "imageUrls": shots, **fields})
        with contextlib.redirect_stdout(io.StringIO()) as self.stdout:
            return process.main(["--data", data])

    def result(self) -> dict:
        return json.loads((self.folder / "result").read_text(encoding="utf-8"))

    def report(self) -> str:
        return (self.folder / "artifacts" / "report.html").read_text(encoding="utf-8")

    def judge(self, url: object) -> tuple[str, str]:
        """The verdict on one image and its reasons, through the whole program."""
        self.assertEqual(self.run_main(("车顶左", url)), 0)
        (image,) = self.result()["images"]
        return image["verdict"], "; ".join(image["reasons"])

    def assert_unreadable(self, url: object, reason: str) -> None:
        verdict, reasons = self.judge(url)
        self.assertEqual(verdict, "unreadable")
        self.assertIn(reason, reasons)
        self.assertIn(process.escape(reasons), self.report())


class FetchTest(StoreTest):
    def test_missing_image(self) -> None:
        self.assert_unreadable(self.store.url("nowhere.jpg"), "server answered 404")

    def test_server_that_is_not_there(self) -> None:
        gone = Store()
        gone.close()
        self.assert_unreadable(gone.url("a.jpg"), "cannot be fetched: Connection refused")

    def test_file_address_is_refused(self) -> None:
        self.assert_unreadable("file:///etc/passwd", "not an http or https address")

    def test_addresses_that_are_none(self) -> None:
        for url in ("", "roof.jpg", "http://", "http://[", "data:image/png;base64,AAAA", "ftp://127.0.0.1/a"):
            with self.subTest(url):
                self.assert_unreadable(url, "not an http or https address")

    def test_address_that_is_no_string(self) -> None:
        self.assert_unreadable(["http://127.0.0.1/"], "not a string")

    def test_redirect_to_a_file_is_refused(self) -> None:
        self.assert_unreadable(self.store.put("a", status=302, Location="file:///etc/passwd"), "not allowed")

    def test_redirect_to_ftp_is_refused(self) -> None:
        self.assert_unreadable(
            self.store.put("a", status=302, Location="ftp://127.0.0.1/a"), "unknown url type"
        )

    def test_redirect_within_http_is_followed(self) -> None:
        self.store.put("b", photo("front.jpg"))
        url = self.store.put("a", status=302, Location="/b")
        self.assertNotEqual(self.judge(url)[0], "unreadable")

    def test_address_in_chinese(self) -> None:
        self.store.put("%E8%BD%A6%E9%A1%B6%20%E5%B7%A6.jpg", photo("front.jpg"))
        self.assertNotEqual(self.judge(self.store.url("车顶 左.jpg"))[0], "unreadable")

    def test_announced_size_over_the_limit(self) -> None:
        url = self.store.put("a", Content_Length=str(process.MAX_IMAGE_BYTES + 1))
        self.assert_unreadable(url, "larger than 20.0 MiB")

    def test_unannounced_size_over_the_limit(self) -> None:
        self.enterContextOf(mock.patch.object(process, "MAX_IMAGE_BYTES", 4096))
        self.assert_unreadable(self.store.put("a", photo("front.jpg")), "larger than 4 KiB")

    def test_connection_that_ends_early(self) -> None:
        body = photo("front.jpg")
        url = self.store.put("a", body[:1000], Content_Length=str(len(body)))
        self.assert_unreadable(url, f"ended after 1000 of {len(body)} bytes")

    def test_server_that_trickles(self) -> None:
        self.enterContextOf(mock.patch.object(process, "FETCH_SECONDS", 0))
        self.assert_unreadable(self.store.put("a", photo("front.jpg")), "not received within 0 s")

    def test_server_that_says_nothing(self) -> None:
        self.enterContextOf(mock.patch.object(process, "SILENCE_SECONDS", 0.2))
        released = threading.Event()
        self.enterContextOf(mock.patch.object(StoreHandler, "do_GET", lambda handler: released.wait(10)))
        self.addCleanup(released.set)
        self.assert_unreadable(self.store.url("a"), "no answer within 0.2 s")

    def test_images_are_fetched_at_the_same_time(self) -> None:
        together = threading.Barrier(len(REQUEST["imageUrls"]))
        serve = StoreHandler.do_GET

        def wait_for_the_others(handler: StoreHandler) -> None:
            together.wait(timeout=5)
            serve(handler)

        self.enterContextOf(mock.patch.object(StoreHandler, "do_GET", wait_for_the_others))
        url = self.store.put("a", photo("front.jpg"))
        self.run_main(*[(f"camera {i}", url) for i in range(together.parties)])
        self.assertEqual(self.result()["summary"]["unreadable"], 0)


class StructureTest(unittest.TestCase):
    def assert_refused(self, data: bytes, reason: str) -> None:
        with self.assertRaisesRegex(process.Unreadable, reason):
            process.check_structure(data)

    def test_declared_sizes(self) -> None:
        self.assertEqual(process.check_structure(photo("roof-left.jpg")), process.Header("JPEG", 640, 427))
        self.assertEqual(process.check_structure(png(16, 9)), process.Header("PNG", 16, 9))

    def test_progressive_jpeg(self) -> None:
        self.assertIn(b"\xff\xc2", photo("front.jpg"))
        self.assertEqual(process.check_structure(photo("front.jpg")), process.Header("JPEG", 451, 300))

    def test_every_truncation_is_seen(self) -> None:
        for whole in (photo("bogie.jpg"), png(16, 9)):
            for length in range(len(whole)):
                with self.subTest(start=whole[:4], length=length), self.assertRaises(process.Unreadable):
                    process.check_structure(whole[:length])

    def test_bytes_after_the_end_are_allowed(self) -> None:
        self.assertEqual(process.check_structure(photo("bogie.jpg") + b"camera notes").width, 400)

    def test_flipped_bit_in_a_png(self) -> None:
        damaged = bytearray(png(16, 9))
        damaged[-16] ^= 1
        self.assert_refused(bytes(damaged), "wrong checksum")

    def test_other_files(self) -> None:
        self.assert_refused(b"", "empty file")
        self.assert_refused(b"<html>Not found</html>", "neither a JPEG nor a PNG")
        self.assert_refused(process.JPEG_START + b"\xd9", "no picture data")

    def test_sizes_that_would_exhaust_memory(self) -> None:
        self.assert_refused(png(0, 9), "declares no size")
        header = struct.pack(">II", 60_000, 60_000) + b"\x08\0\0\0\0"
        chunks = [(b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")]
        with mock.patch.object(process, "png_chunks", return_value=iter(chunks)):
            self.assert_refused(process.PNG_START, "more than can be measured")


@needs_pillow
class MeasureTest(StoreTest):
    def test_good_photographs(self) -> None:
        names = ("roof-left", "roof-right", "side-left", "side-right", "front")
        images = [(name, self.store.put(name, photo(f"{name}.jpg"))) for name in names]
        self.assertEqual(self.run_main(*images), 0)
        self.assertEqual(self.result()["summary"], {"unreadable": 0, "review": 0, "intact": 0, "good": 5})
        self.assertEqual([image["location"] for image in self.result()["images"]], list(names))
        self.assertEqual(self.report().count('<img src="data:image/jpeg;base64,'), 5)
        self.assertNotIn("Needs attention", self.report())

    def test_blurred_photograph(self) -> None:
        verdict, reasons = self.judge(self.store.put("a", photo("bogie.jpg")))
        self.assertEqual(verdict, "review")
        self.assertRegex(reasons, r"^blurred: sharpness \d+\.\d is below 8$")

    def test_dark_photograph_is_not_called_blurred(self) -> None:
        verdict, reasons = self.judge(self.store.put("a", photo("underframe.jpg")))
        self.assertEqual(verdict, "review")
        self.assertRegex(reasons, r"^too dark: brightness \d+ is below 45$")

    def test_blank_and_small_picture(self) -> None:
        verdict, reasons = self.judge(self.store.put("a", png(2, 2, row=b"\xff\xff")))
        self.assertEqual(verdict, "review")
        for reason in ("too small", "blurred", "too bright", "lost highlights: 100%"):
            self.assertIn(reason, reasons)

    def test_sixteen_bit_grey_is_scaled(self) -> None:
        row = struct.pack(">H", 0x8000) * 16
        measures = process.measure(process.decode(png(16, 9, depth=16, row=row)))
        self.assertEqual(round(measures.brightness), 0x80)

    def test_whole_file_that_does_not_decode(self) -> None:
        whole = png(16, 9)
        broken = bytearray(whole)
        start = whole.index(b"IDAT")
        (length,) = struct.unpack(">I", whole[start - 4 : start])
        broken[start + 4 : start + 4 + length] = bytes(length)
        checksum = zlib.crc32(broken[start : start + 4 + length])
        broken[start + 4 + length : start + 8 + length] = struct.pack(">I", checksum)
        self.assert_unreadable(self.store.put("a", bytes(broken)), "does not decode")


class WithoutPillowTest(StoreTest):
    def setUp(self) -> None:
        super().setUp()
        self.enterContextOf(mock.patch.object(process, "Image", None))

    def test_complete_photograph_is_intact_and_shown(self) -> None:
        self.assertEqual(self.judge(self.store.put("a", photo("bogie.jpg"))), ("intact", ""))
        (image,) = self.result()["images"]
        self.assertEqual((image["width"], image["height"]), (400, 300))
        self.assertNotIn("sharpness", image)
        self.assertFalse(self.result()["measured"])
        self.assertIn(process.data_uri("JPEG", photo("bogie.jpg")), self.report())

    def test_report_and_summary_say_what_is_missing(self) -> None:
        self.run_main()
        self.assertIn("Integrity and size only.", self.report())
        self.assertIn("Pillow is not installed", self.stdout.getvalue())

    def test_corrupt_photograph(self) -> None:
        self.assert_unreadable(self.store.put("a", photo("front.jpg")[:-500]), "incomplete JPEG")

    def test_large_photograph_is_not_embedded(self) -> None:
        self.enterContextOf(mock.patch.object(process, "MAX_EMBEDDED_BYTES", 10))
        self.judge(self.store.put("a", photo("bogie.jpg")))
        self.assertIn("too large to show", self.report())


class ReportTest(StoreTest):
    def test_corrupt_photograph(self) -> None:
        self.assert_unreadable(self.store.put("a", photo("front.jpg")[:-500]), "incomplete JPEG")

    def test_one_bad_image_does_not_spoil_the_others(self) -> None:
        good = self.store.put("a", photo("front.jpg"))
        self.run_main(("左", good), ("中", self.store.url("none")), ("右", good))
        verdicts = [image["verdict"] for image in self.result()["images"]]
        self.assertEqual(verdicts[1], "unreadable")
        self.assertNotIn("unreadable", (verdicts[0], verdicts[2]))

    def test_markup_in_a_request_stays_text(self) -> None:
        attack = "<script>alert(1)</script>\"'>"
        url = self.store.put("a", photo("bogie.jpg"))
        self.run_main((attack, url), ("b", f"http://127.0.0.1/{attack}"), ("c", attack), yardName=attack)
        self.assertNotIn("<script", self.report())
        self.assertNotIn("\"'>", self.report())
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&gt;", self.report())

    def test_only_web_addresses_become_links(self) -> None:
        self.run_main(("a", "javascript:alert(1)"))
        self.assertNotIn('href="javascript', self.report())

    def test_chinese_and_readable_times(self) -> None:
        self.run_main(("车顶左", self.store.url("a")))
        for text in ("香江北路", "车顶左", "2025-12-25 01:02:54.000", '<meta charset="utf-8">'):
            self.assertIn(text, self.report())

    def test_text_that_utf8_cannot_hold(self) -> None:
        self.run_main(("\ud800", self.store.url("a")))
        self.assertEqual(self.result()["images"][0]["location"], "\ud800")

    def test_fields_of_any_type(self) -> None:
        self.assertEqual(self.run_main(requestId=7, trainId=["a"], yardName={"b": 1}, direction=False), 0)
        self.assertEqual(self.result()["requestId"], 7)

    def test_no_images(self) -> None:
        self.assertEqual(self.run_main(), 0)
        self.assertEqual(self.result()["images"], [])
        self.assertIn("no images", self.stdout.getvalue())

    def test_progress(self) -> None:
        images = [(f"roof\n{i}", self.store.url("none")) for i in range(9)]
        self.run_main(*images)
        lines = (self.folder / "progress").read_text(encoding="utf-8").splitlines()
        fractions = [float(line.split(" ", 1)[0]) for line in lines]
        self.assertEqual(len(lines), 10)
        self.assertEqual(fractions, sorted(fractions))
        self.assertTrue(all(0 <= fraction <= 1 for fraction in fractions))
        self.assertEqual(lines[-1], "1.00 report written")
        self.assertEqual({line.split(" ", 1)[1] for line in lines[:-1]}, {f"roof {i}" for i in range(9)})


class RequestTest(unittest.TestCase):
    def refusal(self, data: str) -> str:
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            self.assertEqual(process.main(["--data", data]), 2)
        return stderr.getvalue()

    def test_not_json(self) -> None:
        for data in ("", "{", "[" * 100_000):
            self.assertIn("not JSON", self.refusal(data))

    def test_not_an_object(self) -> None:
        self.assertIn("not a JSON object", self.refusal("[]"))

    def test_each_required_field(self) -> None:
        for name in process.REQUIRED_FIELDS:
            for changed in ({**REQUEST, name: None}, {k: v for k, v in REQUEST.items() if k != name}):
                self.assertIn(f"missing or null: /{name}", self.refusal(json.dumps(changed)))

    def test_images_of_the_wrong_shape(self) -> None:
        cases = (
            ("roof", "/imageUrls is not an array"),
            ([None], "/imageUrls/0 is not an object"),
            ([{"location": "a", "imageUrl": None}], "missing or null: /imageUrls/0/imageUrl"),
        )
        for images, complaint in cases:
            self.assertIn(complaint, self.refusal(json.dumps({**REQUEST, "imageUrls": images})))

    def test_no_data(self) -> None:
        with contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as end:
            process.main([])
        self.assertEqual(end.exception.code, 2)

    def test_schema_asks_for_the_same_fields(self) -> None:
        schema = json.loads((HERE / "full-report.schema.json").read_text(encoding="utf-8"))
        self.assertEqual(tuple(schema["required"]), process.REQUIRED_FIELDS)
        self.assertEqual(set(schema["properties"]), set(process.REQUIRED_FIELDS))
        image = schema["properties"]["imageUrls"]["items"]
        self.assertEqual(tuple(image["required"]), process.REQUIRED_IMAGE_FIELDS)


class NameTest(unittest.TestCase):
    def test_ordinary_ids_are_kept(self) -> None:
        self.assertEqual(process.safe_name(REQUEST["requestId"]), REQUEST["requestId"])

    def test_hostile_ids_stay_one_harmless_component(self) -> None:
        hostile = (
            "",
            ".",
            "..",
            "../../etc",
            "/etc/passwd",
            "a\0b",
            "车顶",
            "\ud800",
            "-rf",
            "a/b",
            "a?b",
            "a" * 500,
        )
        names = [process.safe_name(text) for text in hostile]
        for name in names:
            self.assertRegex(name, r"\A[A-Za-z0-9_][A-Za-z0-9_-]{0,99}\Z")
        self.assertEqual(len(set(names)), len(hostile))


class ProgramTest(unittest.TestCase):
    """The programs as people start them, with the photographs and the request of this folder."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.server = subprocess.Popen(
            [sys.executable, str(HERE / "serve_photos.py"), "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(self.stop_server)
        line = self.server.stdout.readline()
        self.base = re.fullmatch(r"photos at (http://127\.0\.0\.1:\d+/)\n", line).group(1)

    def stop_server(self) -> None:
        self.server.terminate()
        self.server.wait()
        self.server.stdout.close()

    def run_program(self, *options: str, program: Path = HERE / "process.py") -> str:
        data = json.dumps(REQUEST, ensure_ascii=False).replace(PLACEHOLDER_BASE, self.base)
        done = subprocess.run(
            [sys.executable, *options, str(program), "--data", data],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "no_proxy": "127.0.0.1", "LC_ALL": "C"},
            capture_output=True,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.report = self.folder / "reports" / REQUEST["requestId"] / "report.html"
        self.result = json.loads(self.report.with_name("result.json").read_text(encoding="utf-8"))
        return done.stdout.decode("utf-8")

    def test_every_photo_of_the_request_is_here(self) -> None:
        for image in REQUEST["imageUrls"]:
            name = image["imageUrl"].replace(PLACEHOLDER_BASE, "")
            self.assertTrue((PHOTOS / name).is_file(), name)

    @needs_pillow
    def test_with_pillow(self) -> None:
        summary = self.run_program()
        self.assertTrue(summary.startswith("15052 M15 香江北路: 5 good, 2 review\n"), summary)
        self.assertEqual(self.result["summary"]["good"], 5)
        self.assertIn("香江北路", self.report.read_text(encoding="utf-8"))

    def test_without_pillow(self) -> None:
        alone = self.folder / "process.py"  # a copy, with no .venv beside it
        alone.write_bytes((HERE / "process.py").read_bytes())
        summary = self.run_program("-S", program=alone)  # -S: without site-packages
        self.assertTrue(summary.startswith("15052 M15 香江北路: 7 intact\n"), summary)

    def test_photo_server_stays_in_its_folder(self) -> None:
        for path in ("", "../process.py", "%2e%2e/process.py", "none.jpg"):
            with self.subTest(path), self.assertRaisesRegex(process.Unreadable, "server answered 404"):
                process.fetch(self.base + path)
        self.assertEqual(process.fetch(self.base + "front.jpg"), photo("front.jpg"))


if __name__ == "__main__":
    unittest.main()
