"""Actors of a Ray cluster that work on a stage's items, on nodes that share the folders or not.

An actor is a process that keeps the network that it has loaded. Where it sees the stage's store and
project it is a worker as any other. Where it does not, what it reads is sent to it through Ray's
object store, and what it makes comes back so; both are checked by their sha256.
"""

import hashlib
import importlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from features.cache.arrays import check
from features.cache.keys import PROJECT
from features.cache.store import ItemStore, store_root
from stages.engine.carried import files_of, moved
from stages.engine.hands import LARGEST_PART, Done, Hand, work_on_part
from stages.engine.kit import Kit, check_kit, kit
from stages.engine.params import Ray
from stages.engine.paths import LOGS, PARAMS
from stages.engine.trouble import MachineError
from stages.engine.workers import Part, Work

APART = 4
"""Items that an actor without the store is given at once: their files are in memory on the way."""


STARTS = 20
"""Deaths before it is ready that an actor has at most."""

END_S = 10.0
"""Seconds that an actor has to clear up."""


@dataclass(frozen=True)
class Carried:
    """A file on its way.

    Attributes:
        path: where it comes from; of an item its name in the store.
        sha256: of its bytes, as they were read.
        content: the bytes.
    """

    path: Path
    sha256: str
    content: bytes

    @classmethod
    def of(cls, path: Path) -> "Carried":
        """Read a file."""
        content = path.read_bytes()
        return cls(path, hashlib.sha256(content).hexdigest(), content)

    def write(self, target: Path) -> None:
        """Write it.

        Raises:
            MachineError: it has not arrived as it was sent.
        """
        if hashlib.sha256(self.content).hexdigest() != self.sha256:
            raise MachineError(f"{self.path}: damaged on its way between two nodes; run again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(self.content)


@dataclass(frozen=True)
class Orders:
    """What all actors of a stage are told.

    Attributes:
        project: the folder that the stage runs in.
        store: root of its store.
        tokens: folders of these two that are there as long as the stage runs, by which an actor
            knows that it sees the same.
        work: how items are made.
        name: of the stage.
        kit: what the stage works with.
    """

    project: Path
    store: Path
    tokens: tuple[Path, ...]
    work: Work[Any]
    name: str
    kit: Kit


class Actor:
    """What works on parts in a Ray cluster."""

    def __init__(self, orders: Orders) -> None:
        """Begin, in the project's folder, which is at the same path on all nodes."""
        os.chdir(orders.project)
        self._orders = orders
        self._root = store_root() if "AFFECTLINE_STORE" in os.environ else orders.store
        self._places: dict[Path, Path] = {}

    def ready(self) -> bool | OSError:
        """Return whether it sees the stage's store and project; an error: it cannot work."""
        store, project = self._orders.tokens
        shares = (self._root / store).is_dir() and project.is_dir()
        try:
            check_kit(self._orders.kit, self._orders.work.weights if shares else ())
        except MachineError as error:
            return error
        return shares

    def work_on(self, part: Part) -> Done:
        """Work on a part of the items."""
        return work_on_part(self._root, self._orders.work, self._orders.name, part)

    def work_apart(
        self, part: Part, needed: set[Path], *new: Carried
    ) -> tuple[Done, list[Carried]]:
        """Work on a part of the items away from the store, and return what was made.

        Args:
            part: the items.
            needed: files that they are made of.
            new: those that it has not got yet.
        """
        here = Path(self._folder.name)
        for path in self._places.keys() - needed:
            self._places.pop(path).unlink()
        for file in new:
            self._places[file.path] = here / "inputs" / f"{file.sha256}{file.path.suffix}"
            file.write(self._places[file.path])
        work, items = (moved(each, self._places) for each in (self._orders.work, part))
        store = ItemStore(here / "store")
        done = work_on_part(store.root, work, self._orders.name, items)
        made = []
        for each in store.items():
            made.append(replace(Carried.of(each.path), path=Path(each.path.name)))
            store.remove(each)
        return done, made

    def end(self) -> None:
        """Remove what it has been sent."""
        self._folder.cleanup()

    @property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        if not hasattr(self, "_scratch"):
            self._scratch = tempfile.TemporaryDirectory(prefix="affectline-")
        return self._scratch


class _Place:
    """The stage's end of an actor."""

    def __init__(self, ray: Any, actor: Any, store: ItemStore, work: Work[Any]) -> None:
        self._ray, self._actor, self._store, self._work = ray, actor, store, work
        self._shares = True
        self._there: set[Path] = set()

    def ready(self) -> "Future[Any]":
        def learn(shares: bool | OSError) -> bool | OSError:
            self._shares, self._there = shares is not False, set()
            return shares

        # while it is started anew Ray says that it is not there
        ready = self._actor.ready.options(max_task_retries=STARTS)
        return _then(ready.remote().future(), learn)

    def room(self) -> int:
        return LARGEST_PART if self._shares else APART

    def give(self, part: Part) -> "Future[Any]":
        if self._shares:
            future: Future[Any] = self._actor.work_on.remote(part).future()
            return future
        needed = files_of(self._work) | files_of(part)
        new = [self._ray.put(Carried.of(path)) for path in sorted(needed - self._there)]
        self._there = needed
        return _then(self._actor.work_apart.remote(part, needed, *new).future(), self._taken_in)

    def end(self) -> None:
        """End the actor; what it has been sent goes with it."""
        if not self._shares:
            with suppress(Exception):  # its node may be gone
                self._ray.get(self._actor.end.remote(), timeout=END_S)
        self._ray.kill(self._actor)

    def _taken_in(self, answer: tuple[Done, Sequence[Carried]]) -> Done:
        """Take what was made into the store."""
        done, made = answer
        with self._store.staging() as folder:
            for file in made:
                path = folder / file.path
                file.write(path)
                if path.suffix == ".h5" and check(path).get("key") != path.stem:
                    raise MachineError(f"{path.name}: a worker has made another item; run again")
                self._store.add(path.stem, path)
        return done


def _then(future: "Future[Any]", change: Callable[[Any], Any]) -> "Future[Any]":
    """Return a future of what ``change`` makes of another's result."""
    changed: Future[Any] = Future()

    def pass_on(done: "Future[Any]") -> None:
        try:
            changed.set_result(change(done.result()))
        except BaseException as error:
            changed.set_exception(error)

    future.add_done_callback(pass_on)
    return changed


@contextmanager
def on_ray(store: ItemStore, work: Work[Any], name: str, settings: Ray) -> Iterator[list[Hand]]:
    """Join a Ray cluster, or start one on this machine, and have an actor for each of its places.

    Args:
        store: where items go.
        work: how they are made.
        name: of the stage.
        settings: of the cluster.

    Raises:
        MachineError: Ray is not installed, or the cluster has no place of this size.
    """
    if importlib.util.find_spec("ray") is None:
        raise MachineError(f"{PARAMS}: engine.executor: ray: `pip install 'affectline[ray]'`")
    ray: Any = importlib.import_module("ray")

    with ExitStack() as stack:
        if not ray.is_initialized():
            ray.init(settings.address, include_dashboard=False, log_to_driver=False)
            stack.callback(ray.shutdown)
        count = settings.actors or _places(ray.nodes(), settings)
        if not count:
            raise MachineError(
                f"{PARAMS}: engine.ray: no node of the cluster has {settings.cpus:g} CPUs and "
                f"{settings.gpus:g} GPUs"
            )
        in_store = stack.enter_context(store.staging())
        LOGS.mkdir(exist_ok=True)
        in_project = stack.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=LOGS))
        tokens = (in_store.relative_to(store.root), Path(in_project).absolute())
        root = store.root.absolute()
        orders = Orders(Path.cwd(), root, tokens, work, name, kit(work.weights))
        actor = ray.remote(Actor).options(
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            max_restarts=-1,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": {"PYTHONPATH": str(PROJECT)}},
        )
        actors = [actor.remote(orders) for _ in range(count)]
        deaths = (ray.exceptions.RayActorError,)
        places = [_Place(ray, each, store, work) for each in actors]
        yield [
            Hand(f"{number} of Ray", place.ready, place.give, deaths, place.room)
            for number, place in enumerate(places)
        ]
        for place in places:
            place.end()


def _places(nodes: list[dict[str, Any]], settings: Ray) -> int:
    """Return how many actors of a size the nodes of a cluster have room for."""
    wanted = {"CPU": settings.cpus, "GPU": settings.gpus}
    return sum(
        min(
            int(node["Resources"].get(kind, 0) // size) for kind, size in wanted.items() if size > 0
        )
        for node in nodes
        if node["Alive"]
    )
