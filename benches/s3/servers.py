"""The servers of the S3 measurements, each in a process of its own.

Started as `servers.py moto` or `servers.py listing`. The first line on stdout is the endpoint; then one command a line
on stdin, one JSON answer a line on stdout:

    put FIRST COUNT     objects many/.../object-FIRST and so on, COUNT of them
    pages               every page listed so far: when it was asked for and answered, whether it began a listing, whether
                        it ended one
"""

import http.server
import json
import logging
import sys
import threading
import time
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bench-box"
PREFIX = "many/some/where/deep/in/the/tree/"
PAGES = []


def key_of(number):
    return f"{PREFIX}object-{number:09d}.tar.gz"


def note_page(asked, query, body):
    begins = "continuation-token" not in query
    PAGES.append({"asked": asked, "answered": time.time(), "begins": begins, "ends": b"<IsTruncated>false" in body})


def serve_commands(put):
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "put":
            put(*map(int, numbers))
        answer = PAGES if word == "pages" else None
        print(json.dumps(answer), flush=True)


def moto():
    """moto's S3, with its pages timed."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = DomainDispatcherApplication(create_backend_app)

    def timed(environ, start_response):
        asked = time.time()
        body = b"".join(app(environ, start_response))
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if "list-type" in query:
            note_page(asked, query, body)
        return [body]

    server = make_server("127.0.0.1", 0, timed, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    print(f"http://127.0.0.1:{server.server_port}", flush=True)

    def put(first, count):
        for number in range(first, first + count):
            backend.put_object(BUCKET, key_of(number), b"x")

    serve_commands(put)


class Listing(http.server.BaseHTTPRequestHandler):
    """Knows how many objects there are and nothing else: their keys are numbers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    count = 0

    def do_GET(self):
        asked = time.time()
        query = parse_qs(urlsplit(self.path).query)
        first = 0
        if "continuation-token" in query:
            first = int(query["continuation-token"][0])
        elif "start-after" in query:
            name = unquote(query["start-after"][0])
            first = int(name.removeprefix(PREFIX + "object-").removesuffix(".tar.gz")) + 1
        last = min(first + 1000, Listing.count) if PREFIX.startswith(query.get("prefix", [""])[0]) else first
        truncated = last < Listing.count and last > first
        xml = ['<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">']
        xml.append(f"<Name>{BUCKET}</Name><EncodingType>url</EncodingType><MaxKeys>1000</MaxKeys>")
        xml.append(f"<KeyCount>{last - first}</KeyCount><IsTruncated>{str(truncated).lower()}</IsTruncated>")
        if truncated:
            xml.append(f"<NextContinuationToken>{last}</NextContinuationToken>")
        for number in range(first, last):
            xml.append(
                f"<Contents><Key>{key_of(number)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{number + 1}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        xml.append("</ListBucketResult>")
        body = "".join(xml).encode()
        # Counted before it is sent, so that a client with the answer finds it counted.
        note_page(asked, query, body)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, *_):
        pass


def listing():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)

    def put(first, count):
        Listing.count = first + count

    serve_commands(put)


if __name__ == "__main__":
    {"moto": moto, "listing": listing}[sys.argv[1]]()
