"""Memory that features may take, by what the kernel and control groups say; cores of threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
import torch

from stages.engine.device import (
    GIB,
    DeviceError,
    be_reproducible,
    cache_bytes,
    check_precision,
    cores_kept,
    device_of,
    devices_of,
    free_bytes,
    readers_of,
    set_products,
    use_one_core,
)
from stages.engine.params import Engine, Ray, Slurm


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Return a system with 16 GiB available and no limit."""
    write(tmp_path / "proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\n")
    write(tmp_path / "proc/self/cgroup", "0::/jobs/7\n")
    write(tmp_path / "sys/fs/cgroup/jobs/7/memory.max", "max\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def limit(group: Path, version: int, gib: float, used: float, files: float) -> None:
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    write(group / names[0], f"{int(gib * GIB)}\n")
    write(group / names[1], f"{int(used * GIB)}\n")
    write(group / "memory.stat", f"anon 1\n{names[2]} {int(files * GIB)}\n")


def test_without_a_limit_it_is_what_the_kernel_calls_available(system: Path) -> None:
    assert free_bytes(system) == 16 * GIB


@pytest.mark.parametrize("group", ["", "jobs", "jobs/7"])
def test_the_limit_of_a_group_or_of_one_above_counts_without_files_that_can_go(
    system: Path, group: str
) -> None:
    limit(system / "sys/fs/cgroup" / group, 2, gib=8, used=5, files=1.5)
    assert free_bytes(system) == 4.5 * GIB


@pytest.mark.parametrize("group", ["memory", "memory/docker/a"])
def test_groups_of_the_first_version_count_too(system: Path, group: str) -> None:
    write(system / "proc/self/cgroup", "5:memory:/docker/a\n2:cpu,cpuacct:/\n0::/\n")
    limit(system / "sys/fs/cgroup" / group, 1, gib=4, used=3, files=1)
    assert free_bytes(system) == 2 * GIB


def test_a_limit_above_what_is_there_adds_nothing(system: Path) -> None:
    limit(system / "sys/fs/cgroup", 2, gib=2**33, used=0, files=0)
    assert free_bytes(system) == 16 * GIB


def test_a_system_without_such_files_counts_half_of_its_memory(tmp_path: Path) -> None:
    assert GIB // 8 < free_bytes(tmp_path) < 2**50


def test_this_machine_tells_its_own() -> None:
    assert 0 < free_bytes() <= 2 * free_bytes(Path("/nowhere"))


def test_the_setting_counts_and_else_half_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stages.engine.device.free_bytes", lambda: 10 * GIB)
    assert cache_bytes(Engine(cache_gib=1.5)) == 1.5 * GIB
    assert cache_bytes(Engine(cache_gib=0.0)) == 0
    assert cache_bytes(Engine()) == 5 * GIB


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_each_gpu_has_a_process_or_those_that_are_named(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert devices_of(Engine(), "cuda") == ("0", "1", "2", "3")
    assert devices_of(Engine(devices=[2, 0]), "cuda") == ("2", "0")
    assert devices_of(Engine(devices=[3]), "cuda") == ("3",)  # and not the first
    assert devices_of(Engine(devices=[3]), "cpu") == ()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices_of(Engine(), "cuda") == ()  # this process has it


def test_a_job_that_may_use_some_gpus_counts_among_those(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-8a")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of(Engine(), "cuda") == ("5", "GPU-8a")
    assert devices_of(Engine(devices=[1]), "cuda") == ("GPU-8a",)


def test_a_gpu_that_is_not_there_is_told(four_gpus: None) -> None:
    with pytest.raises(DeviceError, match="engine.devices: found 4, but there are 4 GPUs"):
        devices_of(Engine(devices=[0, 4]), "cuda")


def test_a_thread_beside_the_network_uses_one_core_and_the_network_keeps_its_own() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with cores_kept(), ThreadPoolExecutor(1, initializer=use_one_core) as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
            assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:  # what begins later is as if there had been no other
            assert pool.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("executor", ["ray", "slurm"])
def test_workers_elsewhere_have_the_device_that_they_are_given(
    executor: Literal["ray", "slurm"], gpus: int
) -> None:
    engine = Engine(executor=executor, ray=Ray(gpus=gpus), slurm=Slurm(gpus=gpus))
    assert device_of(engine) == ("cuda" if gpus else "cpu")  # whatever this machine has
    assert device_of(engine.model_copy(update={"device": "cpu"})) == "cpu"
    wrong = engine.model_copy(update={"device": "mps" if gpus else "cuda"})
    with pytest.raises(
        DeviceError, match=rf"engine\.{executor}\.gpus gives each worker {gpus} GPU"
    ):
        device_of(wrong)


def test_frames_are_prepared_by_processes_for_a_gpu_alone(
    four_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda who: set(range(13)), raising=False)
    assert readers_of(Engine(), "cpu") == 0
    assert readers_of(Engine(), "cuda") == 3  # of 13 cores that four GPUs share
    assert readers_of(Engine(devices=[1]), "cuda") == 13
    assert readers_of(Engine(workers=2), "cuda") == 2
    assert readers_of(Engine(executor="ray", ray=Ray(cpus=1.5)), "cuda") == 2
    assert readers_of(Engine(executor="slurm", slurm=Slurm(cpus=5)), "cuda") == 5


def test_tf32_is_refused_where_its_key_would_have_other_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    capability = [(8, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability[0])
    for precision in ("float32", "bfloat16"):
        check_precision("backbones.a", precision, "cpu")
    check_precision("backbones.a", "tf32", "cuda")
    with pytest.raises(DeviceError, match=r"backbones.a.precision: tf32 .* networks run on cpu he"):
        check_precision("backbones.a", "tf32", "cpu")
    capability[0] = (7, 5)
    with pytest.raises(DeviceError, match=r"this GPU's compute capability is 7.5; expected float"):
        check_precision("backbones.a", "tf32", "cuda")


def test_a_gpu_multiplies_in_full_unless_tf32_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch itself convolves in TF32."""
    asked: list[str] = []
    monkeypatch.setattr("stages.engine.device.set_products", asked.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for precision in ("tf32", "float32", "bfloat16"):  # one network after the other in a process
        be_reproducible("cuda", precision)
    be_reproducible("cpu")
    assert asked == ["tf32", "ieee", "ieee"]
    backends = torch.backends
    parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)  # type: ignore[attr-defined]
    before = [part.fp32_precision for part in parts]
    try:
        for kind in ("tf32", "ieee"):
            set_products(kind)  # type: ignore[arg-type]
            assert [part.fp32_precision for part in parts] == [kind] * 3
    finally:
        for part, precision in zip(parts, before, strict=True):
            part.fp32_precision = precision
