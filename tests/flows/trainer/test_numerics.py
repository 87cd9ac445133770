"""How a run is executed: chosen once, recorded, and held to."""

from dataclasses import fields, replace

import pytest

from flows.trainer import numerics
from flows.trainer.numerics import Numerics, Resolved, faults, resolve, settle
from lmcore.errors import InputError

NOW = Resolved(
    device="cpu",
    compile=False,
    micro_batch=8,
    threads=1,
    processes=1,
    torch="2.11.0",
    machine="x86_64",
    instruction_set="avx2",
)
OTHER = {
    "device": "cuda",
    "compile": True,
    "micro_batch": 4,
    "threads": 2,
    "processes": 2,
    "torch": "2.12.0",
    "machine": "aarch64",
    "instruction_set": "avx512f",
    "cuda_graph": True,
    "accelerator": "NVIDIA H100 80GB HBM3, sm_90, CUDA 13.0",
    "loss_chunk_tokens": 256,
    "activation_checkpointing": True,
}


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of four cores, whatever the tests run on."""
    monkeypatch.setattr(numerics, "available_cores", lambda: 4)


def test_new_run_takes_what_is_chosen_now() -> None:
    """Without a record, today's choice is the run's."""
    assert settle(None, NOW, Numerics(), allow_drift=False) == (NOW, [])


@pytest.mark.parametrize("name", [field.name for field in fields(Resolved)])
def test_every_difference_is_followed_or_refused(name: str) -> None:
    """A recorded value that was left open is followed; anything else that differs is refused."""
    recorded = replace(NOW, **{name: OTHER[name]})
    if name in ("compile", "micro_batch", "threads", "cuda_graph", "loss_chunk_tokens"):
        asked = Numerics(cuda_graph="auto")
        assert settle(recorded, NOW, asked, allow_drift=False) == (recorded, [])
        return
    with pytest.raises(InputError, match=rf"{name} .* -> .*--allow-drift"):
        settle(recorded, NOW, Numerics(), allow_drift=False)
    chosen, drift = settle(recorded, NOW, Numerics(), allow_drift=True)
    assert getattr(chosen, name) == getattr(NOW, name)
    assert name in drift


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (Numerics(threads=1), "threads"),
        (Numerics(compile="off"), "compile"),
        (Numerics(cuda_graph="off"), "cuda_graph"),
        (Numerics(micro_batch=8), "micro_batch"),
        (Numerics(device="cpu"), "device"),
    ],
)
def test_what_was_asked_for_is_never_replaced(asked: Numerics, name: str) -> None:
    """A setting that the user gave and that is not the record's is refused, not overruled."""
    recorded = replace(NOW, **{name: OTHER[name]})
    with pytest.raises(InputError, match=name):
        settle(recorded, NOW, asked, allow_drift=False)
    chosen, drift = settle(recorded, NOW, asked, allow_drift=True)
    assert (chosen, drift) == (NOW, [name])


def test_more_threads_than_cores_are_not_followed() -> None:
    """A record of a larger machine is drift here: its threads cannot be had."""
    recorded = replace(NOW, threads=64)
    with pytest.raises(InputError, match="threads 64 -> 1"):
        settle(recorded, NOW, Numerics(), allow_drift=False)


def test_resolve_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every automatic choice becomes a value: threads share the cores, micro-batches fit."""
    monkeypatch.setattr(numerics, "compiler", lambda: "/usr/bin/c++")
    found = resolve(Numerics(processes=2), device="cpu", total_flops=1e9, micro_batch=8)
    assert (found.threads, found.micro_batch, found.compile, found.processes) == (2, 8, False, 2)
    assert (found.loss_chunk_tokens, found.activation_checkpointing) == (1_024, False)
    said = Numerics(
        threads=3,
        micro_batch=2,
        compile="on",
        loss_chunk_tokens=64,
        activation_checkpointing=True,
    )
    found = resolve(said, device="cpu", total_flops=1e9, micro_batch=8)
    assert (found.threads, found.micro_batch, found.compile) == (3, 2, True)
    assert (found.loss_chunk_tokens, found.activation_checkpointing) == (64, True)
    assert found.torch
    assert found.instruction_set
    assert Resolved(**found.as_dict()) == found  # type: ignore[arg-type]


def test_graph_is_recorded_on_one_gpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left open, one GPU's step becomes a graph; asked for elsewhere, it is refused."""
    monkeypatch.setattr(numerics, "accelerator", lambda device: device)
    work = {"total_flops": 1e9, "micro_batch": 8}
    for asked, device, expected in (
        (Numerics(), "cuda", True),
        (Numerics(), "cpu", False),
        (Numerics(processes=2), "cuda", False),
        (Numerics(cuda_graph="off"), "cuda", False),
        (Numerics(cuda_graph="on"), "cuda", True),
    ):
        assert resolve(asked, device=device, **work).cuda_graph is expected
    with pytest.raises(InputError, match=r"--numerics.cuda-graph is on and the device is cpu"):
        resolve(Numerics(cuda_graph="on"), device="cpu", **work)
    (found,) = faults(Numerics(cuda_graph="on", processes=2))
    assert found.startswith("--numerics.cuda-graph is on with 2 processes")


def test_another_gpu_is_drift() -> None:
    """A run begun on one kind of GPU does not go on unsaid on another: its bits would differ."""
    a100, h100 = (replace(NOW, device="cuda", accelerator=name) for name in ("A100", "H100"))
    with pytest.raises(InputError, match="accelerator A100 -> H100"):
        settle(a100, h100, Numerics(), allow_drift=False)


def test_compiling_waits_for_long_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left open, a run is compiled when it is long enough, and on a CPU only with a compiler."""
    long = numerics.COMPILE_PAYS_AFTER_SECONDS["cpu"] * 1.01
    monkeypatch.setattr(numerics, "compiler", lambda: "/usr/bin/c++")
    assert numerics.compile_pays("cpu", long)
    assert not numerics.compile_pays("cpu", long / 1.1)
    monkeypatch.setattr(numerics, "compiler", lambda: None)
    assert not numerics.compile_pays("cpu", long)
    assert not numerics.compile_pays("mps", 1e30)


def test_a_faster_precision_makes_a_shorter_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is long enough to compile in float32 need not be in bfloat16, or on more threads."""
    monkeypatch.setattr(numerics, "compiler", lambda: "/usr/bin/c++")
    work = {"device": "cpu", "micro_batch": 8, "precision": "float32"}
    work["total_flops"] = numerics.COMPILE_PAYS_AFTER_SECONDS["cpu"] * 4 * 5e10 * 1.01
    assert resolve(Numerics(threads=4), **work).compile
    assert not resolve(Numerics(threads=5), **work).compile
    assert not resolve(Numerics(threads=2, processes=3), **work).compile
    assert not resolve(Numerics(threads=4), **work | {"precision": "bfloat16"}).compile


def test_compiling_for_a_gpu_needs_a_c_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what Triton needs a long run stays eager; asked for, compiling says what it lacks."""
    work = {"device": "cuda", "total_flops": 1e18, "micro_batch": 8}
    monkeypatch.setattr(numerics, "accelerator", lambda device: device)
    monkeypatch.setattr(numerics, "find_spec", lambda name: name)
    monkeypatch.setattr(numerics, "get_path", lambda name: "/nowhere")
    monkeypatch.setattr(numerics, "c_compiler", lambda: None)
    assert not resolve(Numerics(), **work).compile
    missing = r"lacks a C compiler \(gcc or clang\), Python's C headers.*--numerics.compile off"
    with pytest.raises(InputError, match=missing):
        resolve(Numerics(compile="on"), **work)
    monkeypatch.undo()
    monkeypatch.setattr(numerics, "missing_for_compiling", lambda device: "")
    monkeypatch.setattr(numerics, "accelerator", lambda device: device)
    assert resolve(Numerics(), **work).compile


def test_compiler_is_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """CXX is asked first, as torch.compile does."""
    mine = tmp_path / "my-c++"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("CXX", str(mine))
    assert numerics.compiler() == str(mine)
    monkeypatch.setenv("CXX", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert numerics.compiler() is None


def test_absent_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is not there is an error that says what to use; auto falls back."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        with pytest.raises(InputError, match=f"--numerics.device is {device}.*cpu or auto"):
            numerics.choose_device(device)
    monkeypatch.setattr(numerics, "accelerator_is_possible", lambda: True)
    assert numerics.choose_device("auto") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert numerics.choose_device("auto") == numerics.choose_device("cuda") == "cuda"
    assert numerics.choose_device("cpu") == "cpu"


def test_precision_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 where the device multiplies it, float16 on other GPUs, float32 elsewhere."""
    import torch

    for able, expected in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able, **_: able)
        assert numerics.choose_precision("cuda") == expected
    for instructions, expected in (
        ("amx_bf16", "bfloat16"),
        ("avx512_bf16", "bfloat16"),
        ("avx512f", "float32"),
        ("arm64", "float32"),
    ):
        monkeypatch.setattr(numerics, "instruction_set", lambda found=instructions: found)
        assert numerics.choose_precision("cpu") == expected
    assert numerics.choose_precision("mps") == "float32"


def test_faults_name_their_flags() -> None:
    """Everything out of range is reported at once, each with its flag."""
    found = faults(Numerics(micro_batch=-1, threads=-1, processes=0))
    flags = ("--numerics.micro-batch", "--numerics.threads", "--numerics.processes")
    assert [message.split(" is ")[0] for message in found] == list(flags)
    assert faults(Numerics(threads=17)) == ["--numerics.threads is 17: this machine has 4 cores"]
    assert faults(Numerics(threads=16)) == faults(Numerics()) == []


def test_the_chunks_of_another_device_are_not_followed() -> None:
    """A run that drifts from a CPU to a GPU takes what that GPU would take."""
    on_gpu = replace(NOW, device="cuda", loss_chunk_tokens=0)
    begun = replace(NOW, device="cpu", loss_chunk_tokens=512)
    chosen, drift = settle(begun, on_gpu, Numerics(), allow_drift=True)
    assert (chosen.device, chosen.loss_chunk_tokens) == ("cuda", 0)
    assert {"device", "loss_chunk_tokens"} <= set(drift)
