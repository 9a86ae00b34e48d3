"""A network for real server processes: one network namespace each, and an unreliable switch between them.

`switch.py NODES SEED` creates the namespaces, prints their description as one line of JSON, and reads commands (one line
of JSON each) from standard input until that is closed. Every frame between two namespaces passes through this process,
which delays, reorders, duplicates, drops or cuts it, per directed pair. In addition, a port of the host's loopback is
forwarded into each namespace: users reach their own server through it, without impairment.

`switch.py check` only tests whether this machine allows it. Must not inspect the traffic: it is TLS.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x891C, 0x8914, 0x1
SERVER_PORT = 8448
LIBC = ctypes.CDLL(None, use_errno=True)


def address_of(node):
    return f"10.77.0.{node + 1}"


def up(name, address, mask):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, mask)):
            packed = struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(control, request, packed)
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", name, IFF_UP))


class Node(threading.Thread):
    """A namespace: the thread runs in it and relays the users' connections into it."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.number, self.failure, self.made = number, None, threading.Event()
        # Created before the thread enters the namespace: it stays on the host's loopback.
        self.door = socket.create_server(("127.0.0.1", 0), backlog=128)

    def run(self):
        try:
            if LIBC.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare of the network namespace")
            self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", b"tap0", IFF_TAP | IFF_NO_PI))
            up(b"tap0", address_of(self.number), "255.255.255.0")
            up(b"lo", "127.0.0.1", "255.0.0.0")
            self.path = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
        except OSError as error:
            self.failure = f"{error}"
        self.made.set()
        while not self.failure:
            outside, _ = self.door.accept()
            threading.Thread(target=carry, args=(outside,), daemon=True).start()


def carry(outside):
    """Relays one connection of a user. The thread runs in the namespace, and connects to a port there."""
    try:
        inside = socket.create_connection(("127.0.0.1", SERVER_PORT), timeout=10)
    except OSError:
        outside.close()
        return
    inside.settimeout(None)
    back = threading.Thread(target=copy, args=(inside, outside), daemon=True)
    back.start()
    copy(outside, inside)
    back.join()
    inside.close()
    outside.close()


def copy(source, target):
    try:
        while part := source.recv(65536):
            target.sendall(part)
    except OSError:
        pass
    # The other direction ends by itself; a dead server ends both.
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Switch:
    def __init__(self, nodes, seed):
        self.nodes, self.dice = nodes, random.Random(seed)
        self.cut, self.weather = set(), {"delay_ms": [0, 0], "lose": 0.0, "double": 0.0}
        self.waiting, self.count, self.where = [], 0, {}
        self.carried = {"frames": 0, "cut": 0, "lost": 0, "doubled": 0, "overtaken": 0}
        self.latest = {}

    def take(self, source):
        while True:
            try:
                frame = os.read(self.nodes[source].tap, 65536)
            except OSError:
                return
            # Only IPv4 and ARP.
            if frame[12:14] not in (b"\x08\x00", b"\x08\x06"):
                continue
            self.where[frame[6:12]] = source
            known = self.where.get(frame[0:6])
            targets = [known] if known is not None else range(len(self.nodes))
            for target in targets:
                if target != source:
                    self.queue(source, target, frame)

    def queue(self, source, target, frame):
        if (source, target) in self.cut:
            self.carried["cut"] += 1
            return
        if self.dice.random() < self.weather["lose"]:
            self.carried["lost"] += 1
            return
        copies = 2 if self.dice.random() < self.weather["double"] else 1
        self.carried["doubled"] += copies - 1
        for _ in range(copies):
            due = time.monotonic() + self.dice.uniform(*self.weather["delay_ms"]) / 1000
            latest = self.latest.get((source, target), 0)
            self.carried["overtaken"] += due < latest
            self.latest[source, target] = max(due, latest)
            self.count += 1
            heapq.heappush(self.waiting, (due, self.count, target, frame))

    def deliver(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _, _, target, frame = heapq.heappop(self.waiting)
            try:
                os.write(self.nodes[target].tap, frame)
                self.carried["frames"] += 1
            except OSError:
                # Its queue is full: the frame is dropped, as on a real network.
                self.carried["lost"] += 1

    def handle(self, command):
        if "cut" in command:
            self.cut = {tuple(pair) for pair in command["cut"]}
        if "weather" in command:
            self.weather = command["weather"]
        if "report" in command:
            print(json.dumps(self.carried), flush=True)

    def run(self):
        taps = {node.tap: node.number for node in self.nodes}
        commands = b""
        while True:
            wait = max(0, self.waiting[0][0] - time.monotonic()) if self.waiting else None
            ready, _, _ = select.select([0, *taps], [], [], wait)
            self.deliver()
            for fd in ready:
                if fd in taps:
                    self.take(taps[fd])
                    continue
                part = os.read(0, 65536)
                if not part:
                    return
                *lines, commands = (commands + part).split(b"\n")
                for line in lines:
                    self.handle(json.loads(line))
            self.deliver()


def make(count):
    nodes = [Node(number) for number in range(count)]
    for node in nodes:
        node.start()
        node.made.wait()
        if node.failure:
            return None, node.failure
    return nodes, None


def main():
    check = sys.argv[1:] == ["check"]
    nodes, failure = make(1 if check else int(sys.argv[1]))
    if failure:
        print(json.dumps({"cannot": failure}), flush=True)
        sys.exit(1 if check else 0)
    if check:
        return
    made = [{"namespace": node.path, "door": node.door.getsockname()[1], "address": address_of(node.number)} for node in nodes]
    print(json.dumps({"nodes": made}), flush=True)
    Switch(nodes, int(sys.argv[2])).run()


main()
