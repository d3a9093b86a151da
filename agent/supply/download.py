# SPDX-License-Identifier: MulanPSL-2.0
"""Files of one source into staging: in what is missing, out checked files there, or AgentError.

Workers fetch segments, one thread follows and computes checksums of what has arrived, one sees to
it that the disk has it, and the thread that called tells how far it is. What has arrived stays for
the next try, whatever ends this one.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Condition, Thread

from agent.errors import AgentError, Code
from agent.supply.body import BUFFER_BYTES
from agent.supply.checksum import Checksum, checksum_for
from agent.supply.disk import disk_error
from agent.supply.hub.listing import RemoteFile
from agent.supply.net import HubClient, SourceUnreachable
from agent.supply.parts import Part, Segment
from agent.supply.patience import Patience
from agent.supply.transfer import RangesIgnored, WrongContent, fetch_segment

RECORD_EVERY_S = 2.0
LOOK_EVERY_S = 0.05
TELL_EVERY_S = 0.5
HASH_SLICE_BYTES = 32 * 2**20  # of one file, before the next one has its turn
GAIN_BYTES = 2**20  # a try that brings less counts as a failure
DAMAGED_LIMIT = 2  # tries of one file with one source


@dataclass(slots=True)
class Job:
    """A file on its way."""

    file: RemoteFile
    part: Part
    checksum: Checksum
    ranges: bool  # whether it may come in pieces
    checked: bool = False
    wrong: int = 0  # how often its content was


class Download:
    """One source, once."""

    def __init__(
        self,
        client: HubClient,
        parts: Iterable[tuple[RemoteFile, Part]],
        parallel: int,
        patience: Patience,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        """The parts are open. `look` is called now and then while they grow; what it raises ends
        the download."""
        self._client = client
        self._patience = patience
        self._look = look
        self._parallel = parallel
        self._changed = Condition()
        self._jobs: list[Job] = []  # those that are not whole yet
        self._queue: deque[tuple[Job, Segment]] = deque()
        self._failure: AgentError | None = None
        self._trouble = ""
        self._finished_bytes = 0
        for file, part in parts:
            # Without a checksum nothing tells whether two halves belong together.
            job = Job(file, part, checksum_for(file), ranges=bool(file.sha256 or file.git_sha1))
            self._jobs.append(job)
            if not job.ranges:
                part.start_over(ranges=False)
            self._enqueue(job)

    def run(self, watch: Callable[[int, str], None]) -> None:
        """`watch(bytes, trouble)` is called now and then from here. Raises AgentError."""
        fetching = [(self._work, "write what was fetched")] * self._parallel
        others = [(self._check, "check what was fetched"), (self._keep, "keep what was fetched")]
        threads = [
            Thread(target=self._guard, args=(body, doing)) for body, doing in fetching + others
        ]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                watch(self.done_bytes(), self._trouble)
                with self._changed:
                    self._changed.wait_for(self._is_over, TELL_EVERY_S)
                if self._is_over():
                    break
        except BaseException as error:
            self._fail(AgentError(Code.INTERNAL, f"cannot go on fetching: {error}"))
            raise
        finally:
            for thread in threads:
                thread.join()
        watch(self.done_bytes(), self._trouble)
        if self._failure is not None:
            raise self._failure

    def done_bytes(self) -> int:
        with self._changed:
            jobs, finished = list(self._jobs), self._finished_bytes
        return finished + sum(job.part.done_bytes for job in jobs)

    def _is_over(self) -> bool:
        return self._failure is not None or not self._jobs

    def _goes_on(self) -> bool:
        return self._failure is None

    def _fail(self, failure: AgentError) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def _guard(self, body: Callable[[], None], doing: str) -> None:
        """What ends one thread ends all."""
        try:
            body()
        except AgentError as failure:
            self._fail(failure)
        except OSError as error:
            self._fail(disk_error(error, doing))
        except BaseException as error:
            self._fail(AgentError(Code.INTERNAL, f"cannot {doing}: {error!r}"))
            raise

    def _enqueue(self, job: Job) -> None:
        with self._changed:
            self._queue.extend(
                (job, segment) for segment in job.part.segments if segment.done < segment.end
            )
            self._changed.notify_all()

    # --- fetching ---------------------------------------------------------------------------------

    def _work(self) -> None:
        buffer = memoryview(bytearray(BUFFER_BYTES))
        while (task := self._next()) is not None:
            self._fetch(*task, buffer)

    def _next(self) -> tuple[Job, Segment] | None:
        with self._changed:
            while not self._is_over():
                if self._queue:
                    return self._queue.popleft()
                self._changed.wait(TELL_EVERY_S)
        return None

    def _fetch(self, job: Job, segment: Segment, buffer: memoryview) -> None:
        """Until the segment is there or given up; a failure is tried again, within bounds."""
        while segment.live and segment.done < segment.end and self._goes_on():
            try:
                fetch_segment(self._client, job.file, job.part, segment, buffer, self._goes_on)
                self._trouble = ""
            except RangesIgnored:
                self._start_over(job, segment, ranges=False)
            except WrongContent as error:
                self._wrong(job, segment, str(error))
            except SourceUnreachable as failure:
                self._wait(segment, failure)
                if not job.ranges:
                    self._start_over(job, segment, ranges=False)
        with self._changed:
            self._changed.notify_all()

    def _wait(self, segment: Segment, failure: SourceUnreachable) -> None:
        """Raises `failure` when patience ends."""
        if segment.done >= segment.best + GAIN_BYTES:
            segment.failures = 0
        segment.best = max(segment.best, segment.done)
        segment.failures += 1
        if segment.failures >= self._patience.tries:
            raise failure
        self._trouble = failure.failure.message
        with self._changed:
            self._changed.wait_for(
                self._is_over, self._patience.wait_s(segment.failures, failure.wait_s)
            )

    def _start_over(self, job: Job, segment: Segment, *, ranges: bool) -> None:
        with self._changed:
            if not segment.live:
                return  # somebody else has done it
            job.ranges = ranges
            job.part.start_over(ranges=ranges)
            job.checksum = checksum_for(job.file)
            for one in job.part.segments:
                one.failures, one.best = segment.failures, segment.best
            self._enqueue(job)

    def _wrong(self, job: Job, segment: Segment, why: str) -> None:
        """Raises AgentError when it was so before."""
        with self._changed:
            if not segment.live:
                return
            job.wrong += 1
            if job.wrong >= DAMAGED_LIMIT:
                # Not a byte of it may reach the next source's try.
                job.part.start_over(ranges=True)
                raise AgentError(
                    Code.CONTENT_DAMAGED,
                    f"cannot use {job.file.path} of {self._client.host}: {why}",
                    "it was fetched twice; a proxy on the way may change it, or the hub is ill: "
                    "name another source",
                )
            self._trouble = f"{job.file.path} was wrong and is fetched anew: {why}"
            self._start_over(job, segment, ranges=job.ranges)

    # --- checking ---------------------------------------------------------------------------------

    def _check(self) -> None:
        while not self._is_over():
            busy = [self._follow(job) for job in list(self._jobs)]
            if not any(busy):
                with self._changed:
                    self._changed.wait(LOOK_EVERY_S)

    def _follow(self, job: Job) -> bool:
        """Whether there was something to do."""
        if job.checked:
            return False
        checksum, segments = job.checksum, job.part.segments
        try:
            read = checksum.read(job.part.handle, job.part.frontier, HASH_SLICE_BYTES)
        except EOFError:  # started over meanwhile
            return False
        if read:
            # The kernel starts to write it out now, not when the file is to be synced.
            os.posix_fadvise(job.part.handle, checksum.at - read, read, os.POSIX_FADV_DONTNEED)
        if checksum.at < job.file.size or checksum is not job.checksum:
            return read > 0
        if checksum.agrees(job.file):
            with self._changed:
                job.checked = True
                self._changed.notify_all()
        else:
            self._wrong(job, segments[0], "its checksum is wrong")
        return True

    # --- keeping ----------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Beside the checksums, which would stand still while the disk writes."""
        while True:
            with self._changed:
                over = self._changed.wait_for(
                    lambda: self._is_over() or self._checked(), RECORD_EVERY_S
                )
                checked = self._checked()
            for job in checked:
                self._finish(job)
            if not checked:
                self._record()
                if over:
                    return
            self._look()

    def _checked(self) -> list[Job]:
        return [job for job in self._jobs if job.checked]

    def _record(self) -> None:
        for job in list(self._jobs):
            if job.ranges:
                job.part.record()

    def _finish(self, job: Job) -> None:
        job.part.finish()
        with self._changed:
            self._jobs.remove(job)
            self._finished_bytes += job.file.size
            self._changed.notify_all()
