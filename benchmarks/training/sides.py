"""Who is compared, and with what work: values that a parent hands to its measuring processes."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from benchmarks.training.cases import CASES, Case, Device, Precision, training_of
from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig

Kind = Literal["lmcore", "faithful", "nanogpt", "matmul"]
Mode = Literal["eager", "compiled"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune-no-cudagraphs"]
MATMUL_SIZE: dict[Device, int] = {"cpu": 2_048, "cuda": 8_192}


@dataclass(frozen=True)
class Side:
    """One measured training step, in a process of its own.

    Example:
      >>> Side("lmcore", compile="default", pinned=False).name
      'lmcore, free'
    """

    kind: Kind
    """Our step, a module's, or a large matrix product to compare them with."""
    compile: CompileMode | None = None
    """torch.compile's mode, or None for eager."""
    pinned: bool = True
    """Deterministic kernels, as in our runs; a module never has them."""
    graph: bool = False
    """Our step replayed as one CUDA graph, as with --numerics.cuda-graph."""
    readable: bool = False
    """Our step as it is read: eager with torch.func's gradients, the oracle of the lean twin."""
    plain: bool = False
    """A module in a plain script, with its user's environment and malloc's own habits."""

    @property
    def name(self) -> str:
        """How the table calls it."""
        mode = self.compile if self.compile not in (None, "default") else ""
        graph = "graph" if self.graph else ""
        free = "free" if self.kind == "lmcore" and not self.pinned else ""
        readable = "torch.func" if self.readable else ""
        plain = "plain" if self.plain else ""
        return ", ".join(word for word in (self.kind, readable, plain, mode, graph, free) if word)


@dataclass(frozen=True)
class Work:
    """What every side does, step for step."""

    size: str
    """A name in `CASES`."""
    device: Device
    """Where."""
    batch_size: int
    """Sequences in a step."""
    threads: int
    """CPU threads of each process."""
    warmup_steps: int
    """Steps before the clock runs; they compile."""
    steps: int
    """Steps in a block."""
    blocks: int
    """Blocks of each side, taken in turns."""
    tokens_file: str = ""
    """Little-endian uint16 token ids; random ids where empty."""
    seed: int = 0
    """Decides the parameters, the random tokens and the windows."""
    precision: Precision | None = None
    """Of the matrix products; None takes float32 on a CPU, bfloat16 on a GPU."""

    @property
    def case(self) -> Case:
        """The model, and the usual batch."""
        return CASES[self.size]

    @property
    def training(self) -> TrainingConfig:
        """Precision, schedule, decay, clipping."""
        training = training_of(self.case, self.device, self.batch_size, self.precision)
        return replace(training, seed=self.seed)

    @property
    def tokens_of_step(self) -> int:
        """B · S."""
        return self.batch_size * self.case.model.context_length

    @property
    def lead_in(self) -> int:
        """Steps before each block that are not timed: on a GPU one, to take its memory again."""
        return 1 if self.device == "cuda" else 0

    @property
    def total_steps(self) -> int:
        """Steps that each side makes, warm-up included."""
        return self.warmup_steps + (self.lead_in + self.steps) * self.blocks


def sides_of(
    mode: Mode,
    against: tuple[Kind, ...],
    compile_modes: tuple[CompileMode, ...],
    free: bool,
    graph: bool,
    readable: bool = False,
    plain: bool = False,
) -> list[Side]:
    """Ours first, then the modules.

    Args:
      mode: of all sides.
      against: the modules.
      compile_modes: of ours, where the mode is compiled.
      free: ours also without determinism.
      graph: ours also as a CUDA graph, unless the compile mode makes one itself.
      readable: ours also with torch.func's gradients, where the mode is eager.
      plain: the modules also without our environment and allocator.

    Example:
      >>> sides = sides_of("compiled", ("faithful",), ("default",), free=True, graph=False)
      >>> [side.name for side in sides]
      ['lmcore', 'lmcore, free', 'faithful']
    """
    compiles = compile_modes if mode == "compiled" else (None,)
    ours = [
        Side("lmcore", compile=compile_mode, pinned=pinned, graph=graphed)
        for compile_mode in compiles
        for graphed in ((False, True) if graph and compile_mode != "reduce-overhead" else (False,))
        for pinned in ((True, False) if free else (True,))
    ]
    if readable and mode == "eager":
        ours.append(Side("lmcore", readable=True))
    theirs: CompileMode | None = "default" if mode == "compiled" else None
    modules = [Side(kind, compile=theirs, pinned=False) for kind in against]
    return ours + modules + [replace(side, plain=True) for side in modules if plain]


def model_of(kind: Kind, model: ModelConfig) -> ModelConfig:
    """The configuration whose parameters and FLOPs are those of a side's model.

    Example:
      >>> model_of("nanogpt", ModelConfig(feed_forward="swiglu")).feed_forward
      'gelu'
    """
    if kind != "nanogpt":
        return model
    return replace(model, feed_forward="gelu", d_ff=0, tie_embeddings=True)


def to_json(side: Side, work: Work) -> dict[str, Any]:
    """Both as plain values."""
    return {"side": asdict(side), "work": asdict(work)}


def from_json(values: dict[str, Any]) -> tuple[Side, Work]:
    """What `to_json` was given.

    Example:
      >>> work = Work("tiny", "cpu", 2, threads=1, warmup_steps=1, steps=3, blocks=2)
      >>> from_json(to_json(Side("faithful"), work)) == (Side("faithful"), work)
      True
    """
    return Side(**values["side"]), Work(**values["work"])
