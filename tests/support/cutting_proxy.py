"""A TCP proxy on the loopback that cuts its connections after so many bytes of the server's, when told to."""

import socket
import threading
from contextlib import suppress
from typing import Self


class CuttingProxy:
    """Passes everything on until ``cut_after`` bytes more have come from the server; then it closes that connection."""

    def __init__(self, port: int) -> None:
        self.cut_after: int | None = None
        self.passed = 0  # bytes of the server's
        self._behind = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for item in self._sockets:
            with suppress(OSError):  # not connected any more
                item.shutdown(socket.SHUT_RDWR)
            item.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._behind)
                self._sockets += [client, server]
                for pump in (
                    threading.Thread(target=self._pump, args=(client, server, False)),
                    threading.Thread(target=self._pump, args=(server, client, True)),
                ):
                    self._threads.append(pump)
                    pump.start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if counted and self.cut_after is not None:
                    data = data[: self.cut_after]
                    self.cut_after -= len(data)
                self.passed += len(data) if counted else 0
                target.sendall(data)
                if counted and self.cut_after == 0:
                    self.cut_after = None
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
