"""``s3://bucket/prefix``: one object of Amazon S3, or of any server that speaks its protocol, per object.

An object lies under ``<prefix>/<key>.kv``. What is under another name is no object of ours.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, ClassVar, TypeVar
from urllib.parse import SplitResult

from harness.core.errors import ChunkMissing, ChunkTruncated, ReadFailures, SetupError, StoreError
from harness.stores.base import Buffer, Read, Store, StoreOptions, checked_key, deadline_of, is_key, late, refuse_late
from harness.stores.bounded import Gate, Shut, submit_all
from harness.stores.s3.address import place_of, refuse_secrets
from harness.stores.s3.client import S3Options, connect
from harness.stores.s3.errors import explain, is_beyond_the_end
from harness.stores.s3.ranges import Ranged, coalesce, scatter

if TYPE_CHECKING:
    from obstore.store import S3Store as Client

_SUFFIX = ".kv"
_AFTER_ALL_KEYS = "~"
_LONGEST_TRY = 4
"""Times ``timeout_s`` that a request may take with all its retries, and more: obstore begins none after ``timeout_s``."""
_PAGE = 1000
_PIECE = 256 << 10
"""Larger ranges are copied piece by piece while they arrive, which is a quarter faster: what is copied is still in the
processor's cache. Smaller ones come whole, since each piece costs a turn."""

_T = TypeVar("_T")
_R = TypeVar("_R")


class S3Store(Store):
    """Objects of a bucket, of Amazon or of any server that speaks S3.

    All blocking calls together have up to ``concurrency`` requests in flight, and so has each ``aread``.

    obstore receives into memory of its own, so every byte is copied once more, into ``out``.
    """

    name = "s3"
    Options = S3Options
    keeps_deadlines = True
    _first_user: ClassVar[int | None] = None
    """The process that started obstore's threads. They don't survive a fork, and whoever waits for them then waits for ever."""

    def __init__(self, url: SplitResult, options: S3Options) -> None:
        """Prove that the bucket can be listed. Rights to write show when something is written.

        Raises UsageError, StoreUnavailable, and SetupError without the package obstore.
        """
        super().__init__(url, options)
        self.options: S3Options = options
        self._place = place_of(url, options.endpoint)
        self._check_process()
        self._connection = connect(self._place, options)
        import obstore
        from obstore.exceptions import BaseError

        self._obstore = obstore
        self._failures = (BaseError, OSError)
        self._abandoned = False
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="s3")
        try:  # nothing comes after this name, so that the reply is small however full the bucket is
            next(iter(obstore.list(self._client, offset=_AFTER_ALL_KEYS, chunk_size=_PAGE)), None)
        except self._failures as error:
            self._pool.shutdown()
            raise self._explained("list the bucket", error) from None

    @classmethod
    def settings(cls, url: SplitResult, options: Mapping[str, str]) -> StoreOptions:
        """As every store, but refuse credentials before anything else can quote them."""
        refuse_secrets(url, options)
        settings = S3Options.model_validate(super().settings(url, options))
        place_of(url, settings.endpoint)
        return settings

    def exists(self, keys: Sequence[str]) -> int:
        """HEAD requests, ``concurrency`` of them at once: one round trip for that many keys.

        A LIST would be one request, but keys are hashes: they share no prefix but the store's, so it would
        return the whole store, a thousand names after the other.
        """
        names = [self._name(key) for key in keys]
        until = time.monotonic() + self.options.timeout_s
        for start in range(0, len(names), self.options.concurrency):
            if start and time.monotonic() > until:
                raise self._explained("look for objects", TimeoutError("timedout"))
            present = self._each(self._is_there, names[start : start + self.options.concurrency])
            if not all(present):
                return start + present.index(False)
        return len(names)

    def read(self, reads: Sequence[Read]) -> None:
        """One ranged GET per read, all at once; one for ranges of an object that touch."""
        refuse_late(reads)
        requests, deadline = coalesce(reads), deadline_of(reads)
        left = deadline - time.monotonic()
        gate = Gate()
        if len(requests) == 1 and left > _LONGEST_TRY * self.options.timeout_s:  # ends by itself before
            _raise_failures([self._get(requests[0], gate)])
            return
        under_way = submit_all(self._pool, [partial(self._get, request, gate) for request in requests], gate)
        wait(under_way, None if math.isinf(left) else max(left, 0.0))
        gate.shut()
        _raise_failures(map(self._in_time, requests, under_way))

    def _in_time(self, request: Ranged, reply: "Future[dict[int, StoreError]]") -> dict[int, StoreError]:
        """The result of a request when its caller's deadline has passed."""
        if reply.done() and not isinstance(reply.exception(), Shut):
            return reply.result()
        reply.cancel()
        self._abandoned = True
        return {position: late(request.key) for position in request.positions}

    async def aread(self, reads: Sequence[Read]) -> None:
        """The same from obstore's own threads, without one of Python's; the copy into ``out`` is the event loop's."""
        free = asyncio.Semaphore(self.options.concurrency)

        async def get(request: Ranged) -> dict[int, StoreError]:
            async with free:
                return await self._aget(request)

        refuse_late(reads)
        requests, deadline = coalesce(reads), deadline_of(reads)
        if math.isinf(deadline) or not requests:
            _raise_failures(await asyncio.gather(*map(get, requests)))
            return
        tasks = [asyncio.ensure_future(get(request)) for request in requests]
        try:
            await asyncio.wait(tasks, timeout=max(deadline - time.monotonic(), 0.0))
        finally:
            unfinished = [task.cancel() for task in tasks]  # nothing is copied after this; what is done stays done
        _raise_failures(
            {position: late(request.key) for position in request.positions} if cancelled else task.result()
            for request, task, cancelled in zip(requests, tasks, unfinished, strict=True)
        )

    def write(self, key: str, parts: Sequence[Buffer]) -> None:
        """One PUT, in several parts above 5 MiB; S3 publishes either as a whole.

        With ``if_absent`` always one PUT; an object that is there already stays, since equal keys mean equal bytes.
        """
        from obstore.exceptions import AlreadyExistsError

        name = self._name(key)
        data = b"".join(parts)  # a PUT signs and sends contiguous bytes
        try:
            self._obstore.put(self._client, name, data, mode="create" if self.options.if_absent else "overwrite")
        except AlreadyExistsError:
            return
        except self._failures as error:
            raise self._explained(f"write object {key}", error) from None

    def write_many(self, objects: Iterable[tuple[str, Sequence[Buffer]]]) -> None:
        """Several PUTs at once; at most ``concurrency`` objects are held in memory."""
        source = iter(objects)
        while batch := list(islice(source, self.options.concurrency)):
            self._each(lambda item: self.write(*item), batch)

    def delete(self, keys: Iterable[str]) -> None:
        """DeleteObjects: one request per thousand keys."""
        names = [self._name(key) for key in keys]
        if names:
            try:
                self._obstore.delete(self._client, names)
            except self._failures as error:
                raise self._explained(f"delete {len(names)} objects", error) from None

    def keys(self) -> Iterator[str]:
        """LIST under the prefix, a thousand names per request."""
        try:
            for page in self._obstore.list(self._client, chunk_size=_PAGE):
                for meta in page:
                    key = meta["path"].removesuffix(_SUFFIX)
                    if is_key(key) and key != meta["path"]:
                        yield key
        except self._failures as error:
            raise self._explained("list the objects", error) from None

    def size(self, key: str) -> int:
        """From a HEAD."""
        try:
            return self._obstore.head(self._client, self._name(key))["size"]
        except self._failures as error:
            raise self._why_not(key, error) from None

    def close(self) -> None:
        """Release the threads; obstore closes its connections once nobody refers to it. Waits for no abandoned request."""
        self._pool.shutdown(wait=not self._abandoned, cancel_futures=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """That there is a proxy on the way."""
        if not self._place.proxy:
            return ()
        host = self._place.endpoint or "s3.amazonaws.com"
        return (f"requests to {host} go through the proxy {self._place.proxy}, which HTTP_PROXY or the like names",)

    @property
    def _client(self) -> "Client":
        self._check_process()
        return self._connection

    def _check_process(self) -> None:
        if S3Store._first_user is None:
            S3Store._first_user = os.getpid()
        elif S3Store._first_user != os.getpid():
            raise SetupError(
                "this process was forked from one that had used an s3 store, whose threads it lacks; "
                "let processes be spawned: VLLM_WORKER_MULTIPROC_METHOD=spawn"
            )

    def _name(self, key: str) -> str:
        return checked_key(key) + _SUFFIX

    def _each(self, do: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """``do`` for every item, at once. The calling thread does a single one itself."""
        if len(items) < 2:
            return [do(item) for item in items]
        return [call.result() for call in submit_all(self._pool, [partial(do, item) for item in items], Gate())]

    def _is_there(self, name: str) -> bool:
        try:
            self._obstore.head(self._client, name)
        except FileNotFoundError:
            return False
        except self._failures as error:
            raise self._explained("look for objects", error) from None
        return True

    def _get(self, request: Ranged, gate: Gate) -> dict[int, StoreError]:
        """Carry out a request; returns why each read of it failed, by its position in the batch. Raises Shut."""
        try:
            return self._arrived(request, self._pieces(request), gate)
        except self._failures as error:
            return self._failed(request, error)

    def _pieces(self, request: Ranged) -> Iterator[Buffer]:
        name, start, length = self._name(request.key), request.start, request.length
        if length == 0:  # S3 has no empty ranges
            self._obstore.head(self._client, name)
        elif length <= _PIECE:
            yield memoryview(self._obstore.get_range(self._client, name, start=start, length=length))
        else:
            reply = self._obstore.get(self._client, name, options={"range": (start, start + length)})
            yield from reply.stream(_PIECE)

    async def _aget(self, request: Ranged) -> dict[int, StoreError]:
        name, start, length = self._name(request.key), request.start, request.length
        try:
            if length == 0:
                await self._obstore.head_async(self._client, name)
                return {}
            data = await self._obstore.get_range_async(self._client, name, start=start, length=length)
            return self._arrived(request, [memoryview(data)], Gate())
        except self._failures as error:
            return self._failed(request, error)

    def _arrived(self, request: Ranged, pieces: Iterable[Buffer], gate: Gate) -> dict[int, StoreError]:
        done = scatter(pieces, chain.from_iterable(item.out for item in request.reads), gate)
        return {position: self._truncated(item, request.start + done) for position, item, end in request.ends() if done < end}

    def _failed(self, request: Ranged, error: Exception) -> dict[int, StoreError]:
        if is_beyond_the_end(error):
            return {position: self._truncated(item, request.start) for position, item, _ in request.ends() if item.length}
        return dict.fromkeys(request.positions, self._why_not(request.key, error))

    def _why_not(self, key: str, error: Exception) -> StoreError:
        if isinstance(error, FileNotFoundError) and "<Code>NoSuchBucket<" not in str(error):
            return ChunkMissing(f"there is no object {key} in {self._place}; write it first, or prime the store again")
        return self._explained(f"read object {key}", error)

    def _truncated(self, item: Read, end: int) -> ChunkTruncated:
        wanted = item.offset + item.length
        return ChunkTruncated(
            f"object {item.key} of {self._place} ends at or before byte {end}, but {wanted} were asked for; delete it"
        )

    def _explained(self, doing: str, error: Exception) -> StoreError:
        return explain(doing, self._place, error, self.options.timeout_s)


def _raise_failures(outcomes: Iterable[Mapping[int, StoreError]]) -> None:
    failures = {position: error for outcome in outcomes for position, error in outcome.items()}
    if failures:
        raise ReadFailures(failures)
