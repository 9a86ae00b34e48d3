"""What happens on the live sockets of a server when time passes, as in spec/docs/live.md and awareness.md."""

from readings import altered, bound

SIGN_IN, IDLE, KEEP_ALIVE = 15_000, 60_000, 20_000


def wait(server, time):
    """Time passes: what is due happens in order."""
    end = server.now + time
    while True:
        due = [event for event in events(server) if event[0] <= end]
        if not due:
            server.now = end
            return
        at, act = min(due, key=lambda event: event[0])
        server.now = max(server.now, at)
        act()


def events(server):
    """The next events: their times, and what happens."""
    for socket, opened in list(server.sockets.items()):
        yield from of_socket(server, socket, opened)
        for name, attached in opened["documents"].items():
            if attached != "ended" and attached.cursors:
                yield attached.next_cursors, lambda s=socket, n=name, a=attached: server.send_cursors(s, n, a)


def of_socket(server, socket, opened):
    sign_in = bound(SIGN_IN, "sockets: 15,001 ms to sign in", "sockets: 14,999 ms to sign in")
    idle = bound(IDLE, "sockets: silent for 60,001 ms", "sockets: silent for 59,999 ms")
    if not opened["signed_in"] and not altered("sockets: any time to sign in"):
        late = 4508 if altered("sockets: not signed in is 4508") else 4401
        yield opened["opened"] + sign_in, lambda: server.close(socket, late)
    received = opened["received"]
    if altered("sockets: what the server sends counts as activity") and opened["wrote"] is not None:
        received = max(received, opened["wrote"])
    silent = 4500 if altered("sockets: a silent client is 4500") else 4508
    yield received + idle, lambda: server.close(socket, silent)
    if opened["wrote"] is not None and not altered("sockets: no keep-alive"):
        every = bound(KEEP_ALIVE, "sockets: a keep-alive after 20,001 ms", "sockets: a keep-alive after 19,999 ms")
        yield opened["wrote"] + every, lambda: keep_alive(server, socket)


def keep_alive(server, socket):
    if server.plain:
        server.send(socket, None, type="awareness", entries=[])
    else:
        server.send(socket, None, type="ping")
