"""Listing, checking and lineage."""

from flows.disk import durable
from flows.store.listing import artifacts, check, lineage, parents
from flows.store.publish import produce
from tests.flows.store.builds import overwrite, request, writing


def test_every_artifact_is_listed_and_sound(root):
    """What was made is listed by stage, with its size, and has no fault."""
    made = [
        produce(root, request(1), writing({"a": "12"})),
        produce(root, request(2), writing({"a": "123"})),
        produce(root, request(1, stage="later"), writing({})),
    ]
    listed = list(artifacts(root))
    assert sorted(made, key=lambda a: a.path) == listed
    assert sorted(a.n_bytes for a in listed) == [0, 2, 3]
    assert [check(a) for a in listed] == [[], [], []]
    assert [a.stage for a in artifacts(root, "later")] == ["later"]
    assert list(artifacts(root, "none")) == []


def test_damage_is_reported_and_left_alone(root):
    """A check names the fault and moves nothing, for a changed file and for a lost record."""
    changed, lost = (produce(root, request(n), writing({"a": "1"})) for n in (1, 2))
    overwrite(changed.path / "a", b"2")
    durable.make_writable(lost.path)
    (lost.path / "record.json").unlink()
    reports = {a.path: check(a) for a in artifacts(root)}
    assert reports[changed.path][0].startswith("a changed")
    assert reports[lost.path][0].startswith("record.json cannot be read")
    unreadable = next(a for a in artifacts(root) if a.path == lost.path)
    assert (unreadable.digest, unreadable.n_bytes, dict(unreadable.facts)) == ("", 0, {})
    assert changed.path.is_dir()
    assert lost.path.is_dir()


def test_an_artifact_under_a_wrong_name_is_reported(root):
    """A folder renamed by hand is not taken for another key's."""
    artifact = produce(root, request(), writing({"a": "1"}))
    durable.make_writable(artifact.path)
    artifact.path.rename(artifact.path.with_name("f" * 16))
    (moved,) = artifacts(root)
    assert check(moved) == [f"it lies in a folder named {'f' * 16}, which is not its key"]


def test_lineage_leads_from_a_result_to_what_it_came_from(root):
    """Each input's digest names the artifact that has it; one that is gone is said to be."""
    corpus = produce(root, request(), writing({"a": "1"}))
    inputs = {"corpus": corpus, "lost": "e" * 64}
    model = produce(root, request(stage="model", inputs=inputs), writing({"m": "1"}))
    by_digest = lineage(root)
    assert by_digest == {corpus.digest: corpus, model.digest: model}
    assert parents(model, by_digest) == {"corpus": corpus, "lost": None}
    assert parents(corpus, by_digest) == {}


def test_of_equal_contents_the_last_made_stands(root):
    """Two requests with one result share a digest; lineage gives one artifact for it."""
    twins = [produce(root, request(n), writing({"a": "1"})) for n in (1, 2)]
    latest = max(twins, key=lambda a: (a.record["finished"], a.key))
    assert lineage(root) == {twins[0].digest: latest}


def test_a_folder_without_a_store_is_empty(root):
    """Nothing made, nothing listed."""
    assert list(artifacts(root)) == []
    assert lineage(root) == {}
