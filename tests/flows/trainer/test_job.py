"""A job survives its journey through a file, whatever it holds."""

from pathlib import Path

from hypothesis import given, settings, strategies as st

from flows.trainer.job import Job, read_job, write_job
from flows.trainer.numerics import Resolved
from lmcore.model.config import ModelConfig
from lmcore.training.config import TrainingConfig

jobs = st.builds(
    Job,
    stage=st.sampled_from(["pretrain", "evaluate"]),
    model=st.builds(ModelConfig, rope_theta=st.floats(1, 1e9)),
    training=st.builds(TrainingConfig, max_lr=st.floats(1e-9, 1), eps=st.floats(1e-30, 1)),
    numerics=st.builds(Resolved),
    train_tokens=st.text(),
    work_dir=st.text(),
    settings=st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.booleans())),
)


@settings(deadline=None, max_examples=50)
@given(job=jobs)
def test_job_round_trip(job: Job, tmp_path_factory) -> None:
    """What is read is what was written, to the last bit of each float."""
    path = Path(tmp_path_factory.getbasetemp()) / "job.json"
    write_job(job, path)
    assert read_job(path) == job
