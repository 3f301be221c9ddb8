"""Items that a thread makes ahead of who uses them."""

import threading
from collections.abc import Generator
from queue import SimpleQueue
from typing import TypeVar

Made = TypeVar("Made")


def ahead(items: Generator[Made, None, None], depth: int) -> Generator[Made, None, None]:
    """Yield ``items``, which a thread makes ahead: ``depth`` of them wait at most.

    What is raised where they are made is raised here in its place. Closing this ends the thread,
    after the item that it is at.
    """
    ready: SimpleQueue[tuple[Made] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(depth)
    is_over = threading.Event()

    def make() -> None:
        try:
            for item in items:
                ready.put((item,))
                room.acquire()
                if is_over.is_set():
                    break
            items.close()
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item[0]
    finally:
        is_over.set()
        room.release()
        thread.join()
