#!/usr/bin/env python3
"""Serve photos/ on this machine only, read-only, as the depot's image store would.

    python3 serve_photos.py --port 9400

Prints one line, "photos at http://127.0.0.1:PORT/", once it answers. Port 0 takes a free one.
"""

from __future__ import annotations

import argparse
import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PHOTOS = Path(__file__).resolve().parent / "photos"


class PhotoHandler(SimpleHTTPRequestHandler):
    timeout = 10  # seconds a silent client may hold a thread

    def __init__(self, *args, **kwargs):
        super().__init__(*args, directory=str(PHOTOS), **kwargs)

    def list_directory(self, path):
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, *args):
        pass


class PhotoServer(ThreadingHTTPServer):
    request_queue_size = 128  # ten requests of seven images each arrive at once

    def handle_error(self, request, client_address):
        # A client that goes away is its own business; anything else is ours.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=9400, help="0 takes a free one (default: 9400)")
    port = parser.parse_args().port
    try:
        server = PhotoServer(("127.0.0.1", port), PhotoHandler)
    except (OSError, OverflowError) as error:
        print(f"serve_photos.py: port {port}: {error}", file=sys.stderr)
        return 1
    # Bound and listening: a client that connects from here on is answered.
    print(f"photos at http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
