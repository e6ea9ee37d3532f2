"""One client: reads requests by h11, and answers them one by one, each within its time."""

import asyncio
import contextlib
import re
from email.utils import formatdate

import h11

from bridge.http.budget import Budget
from bridge.http.site import SECURITY, Answer, Request, Site

HEAD_BYTES = 8192  # of one request; a browser sends about 1,000
HEAD_TIMEOUT = 5.0  # seconds from the first byte to the last of a request's head
IDLE_TIMEOUT = 30.0  # seconds between two requests of a connection; the page asks every 2 s
WRITE_TIMEOUT = 10.0  # seconds until the client has taken an answer
_LINGER = 1.0  # seconds for what a client still sends behind a refused request
_LINGER_BYTES = 65_536

_BLANK_LINE = re.compile(rb"\n\r?\n")
_NO_REQUEST = re.compile(rb"[\x00-\x20]")  # at its first byte, such as a TLS handshake; h11 says the same
_FORM = {408: "the request took too long", 431: f"the request's head is longer than {HEAD_BYTES} bytes"}


class Connection:
    """`since`: when the client began to keep the connection waiting, in the event loop's time.

    Bytes are only gathered as they come; whatever costs more awaits the budget's turn. So many clients whose
    bytes or time-outs come in the same moment do not take the interpreter for long at a time.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, site: Site, budget: Budget
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._site = site
        self._budget = budget
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._unread = bytearray()  # what the client has sent and h11 has not been given
        self.since = asyncio.get_running_loop().time()

    def abort(self) -> None:
        """Close at once, whatever the client does."""
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Serve until one side ends the connection. Raises nothing but CancelledError."""
        try:
            first = True
            while await self._exchange(first):
                first = False
            await asyncio.wait_for(self._leave(), WRITE_TIMEOUT)
        except (OSError, TimeoutError, h11.LocalProtocolError):
            pass  # the client is gone, or takes nothing
        finally:
            self.abort()

    async def _exchange(self, first: bool) -> bool:
        """One request and its answer. Returns whether another one may follow."""
        try:
            length = await self._gather(HEAD_TIMEOUT if first else IDLE_TIMEOUT)
        except TimeoutError:
            if self._unread:
                await self._budget.turn()
                await self._send(Answer(408, f"{_FORM[408]}\n".encode(), ends=True), b"GET")
            return False
        if not length:
            return False
        await self._budget.turn()
        try:
            event = self._parse(length)
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            # What h11 says may quote the request, so the answer does not.
            text = _FORM.get(status, "this is no HTTP/1.1 request")
            await self._send(Answer(status, f"{text}\n".encode(), ends=True), b"GET")
            return False
        if event is None:
            return False
        # h11 checks the length of an incomplete head alone, and the last read may complete a longer one.
        if length > HEAD_BYTES:
            answer = Answer(431, f"{_FORM[431]}\n".encode(), ends=True)
        else:
            answer = self._answer(event)
        await self._send(answer, event.method)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _gather(self, timeout: float) -> int:
        """How many bytes of `_unread` h11 can judge: a whole head, or what can't become one. 0: none came.

        Raises TimeoutError.
        """
        loop = asyncio.get_running_loop()
        self.since = loop.time()
        searched = 0
        async with asyncio.timeout(HEAD_TIMEOUT if self._unread else timeout) as limit:
            while not (found := _BLANK_LINE.search(self._unread, searched)):
                if len(self._unread) > HEAD_BYTES or _NO_REQUEST.match(self._unread):
                    break
                searched = max(0, len(self._unread) - 2)
                data = await self._reader.read(HEAD_BYTES)
                if not data:
                    break
                if not self._unread:
                    limit.reschedule(loop.time() + HEAD_TIMEOUT)
                self._unread += data
        self.since = loop.time()  # it waits for the bridge now
        return found.end() if found else len(self._unread)

    def _parse(self, length: int) -> h11.Request | None:
        """The request in the first `length` bytes of `_unread`. Raises RemoteProtocolError."""
        self._http.receive_data(bytes(self._unread[:length]))
        del self._unread[:length]
        event = self._http.next_event()
        if event is h11.NEED_DATA:
            self._http.receive_data(b"")  # the client has closed
            event = self._http.next_event()
        return event if isinstance(event, h11.Request) else None

    def _answer(self, event: h11.Request) -> Answer:
        headers: dict[str, str] = {}
        for name, value in event.headers:
            headers[name.decode("ascii")] = value.decode("latin-1")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return Answer(413, b"no request here has a body\n", ends=True)
        self._http.next_event()  # EndOfMessage: there is no body
        request = Request(event.method.decode("ascii"), event.target.decode("ascii"), headers)
        try:
            return self._site.answer(request)
        except Exception as defect:
            context = {"message": f"{request.target!r} can't be answered", "exception": defect}
            asyncio.get_running_loop().call_exception_handler(context)
            return Answer(500, b"a defect of the bridge; its log tells more\n")

    async def _send(self, answer: Answer, method: bytes) -> None:
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            *SECURITY.items(),
            *answer.headers.items(),
        ]
        if answer.status == 304:
            del headers[2]  # it would tell the length of what was asked for
        if answer.ends:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=answer.status, headers=headers)
        parts = [self._http.send(response) or b""]
        if method != b"HEAD" and answer.body:
            parts.append(self._http.send(h11.Data(data=answer.body)) or b"")
        parts.append(self._http.send(h11.EndOfMessage()) or b"")
        self._writer.write(b"".join(parts))
        await asyncio.wait_for(self._writer.drain(), WRITE_TIMEOUT)

    async def _leave(self) -> None:
        """Close so that the client gets the whole answer.

        A close with unread data sends RST, and the client's kernel then drops what it has not read yet.
        """
        if self._http.their_state is not h11.DONE and self._writer.can_write_eof():
            self._writer.write_eof()
            left = _LINGER_BYTES
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    while left > 0 and (data := await self._reader.read(HEAD_BYTES)):
                        left -= len(data)
        self._writer.close()
        await self._writer.wait_closed()
