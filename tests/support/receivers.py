"""Where alerts arrive in tests: a web server that keeps what is posted, and a mail server that keeps what is sent."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def web_receiver() -> Iterator[tuple[int, list[bytes]]]:
    """Its port, and the bodies posted so far."""
    posted: list[bytes] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], posted
        server.shutdown()


@contextmanager
def mail_receiver() -> Iterator[tuple[int, list[EmailMessage]]]:
    """Its port, and the mails sent so far: as much of SMTP (RFC 5321) as a client needs that does not log in."""
    mails: list[EmailMessage] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(words: bytes) -> None:
            writer.write(words + b"\r\n")
            await writer.drain()

        await say(b"220 receiver")
        while command := (await reader.readline()).split(b" ", 1)[0].strip().upper():
            if command == b"DATA":
                await say(b"354 go on")
                mails.append(message_from_bytes(await reader.readuntil(b"\r\n.\r\n"), policy=policy.default))
            await say(b"221 bye" if command == b"QUIT" else b"250 OK")
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(converse, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1], mails
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
