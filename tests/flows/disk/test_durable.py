"""Syncing, permissions and removal."""

import stat

import pytest

from flows.disk import durable


@pytest.fixture
def tree(tmp_path):
    """A folder with files at two depths and a link."""
    folder = tmp_path / "tree"
    (folder / "in" / "deep").mkdir(parents=True)
    (folder / "a").write_text("a")
    (folder / "in" / "deep" / "b").write_text("b")
    (folder / "link").symlink_to(tmp_path)
    return folder


def test_every_file_and_folder_is_synced_and_the_top_last(tree, monkeypatch):
    """Nothing that a rename will show is left to the kernel's leisure."""
    synced = []
    monkeypatch.setattr(durable, "sync_file", lambda path: synced.append(path))
    durable.sync_tree(tree)
    expected = [tree / "a", tree / "in/deep/b", tree / "in/deep", tree / "in", tree]
    assert synced == expected


def test_bytes_of_a_tree_are_those_of_its_files(tree):
    """Files at any depth count, what a link points at does not; no folder has no bytes."""
    (tree / "in" / "deep" / "b").write_text("four")
    assert durable.tree_bytes(tree) == 1 + 4
    assert durable.tree_bytes(tree / "none") == 0


def test_read_only_takes_every_write_bit(tree):
    """No file or folder can be written by anyone afterwards; what a link points at is left."""
    before = tree.parent.stat().st_mode
    durable.make_read_only(tree)
    for path in (tree, tree / "a", tree / "in", tree / "in/deep", tree / "in/deep/b"):
        assert not path.stat().st_mode & 0o222
    assert tree.parent.stat().st_mode == before


def test_removal_opens_what_is_read_only(tree):
    """A published folder can be removed, and what its links point at stays."""
    durable.make_read_only(tree)
    durable.remove_tree(tree)
    assert not tree.exists()
    assert tree.parent.is_dir()
    durable.remove_tree(tree)


def test_make_writable_gives_folders_back(tree):
    """The owner can change every folder again; files stay read-only."""
    durable.make_read_only(tree)
    durable.make_writable(tree)
    for folder in (tree, tree / "in", tree / "in/deep"):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o700 == 0o700
    assert not (tree / "a").stat().st_mode & 0o222


def test_write_new_never_overwrites(tmp_path):
    """A record is written once."""
    durable.write_new(tmp_path / "a", b"1")
    with pytest.raises(FileExistsError):
        durable.write_new(tmp_path / "a", b"2")


def test_empty_folders_go_and_others_stay(tmp_path):
    """Folders without a file at any depth are removed."""
    (tmp_path / "empty" / "empty").mkdir(parents=True)
    (tmp_path / "full" / "empty").mkdir(parents=True)
    (tmp_path / "full" / "a").touch()
    durable.remove_empty_folders(tmp_path)
    assert [entry.path for entry in durable.walk(tmp_path)] == [
        str(tmp_path / "full"),
        str(tmp_path / "full" / "a"),
    ]
