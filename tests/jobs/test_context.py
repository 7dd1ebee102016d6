from pathlib import Path

from webui.jobs.context import JobContext


def test_steps_are_counted_as_they_are_done() -> None:
    job = JobContext.alone()
    job.begin_passes(2)
    seen = [(letter, job.progress.step, job.progress.steps) for letter in job.steps("abc")]
    assert seen == [("a", 0, 3), ("b", 1, 3), ("c", 2, 3)]
    assert job.progress.step == 3
    assert job.progress.fraction == 0.5


def test_next_pass_starts_the_steps_again() -> None:
    job = JobContext.alone()
    job.begin_passes(2)
    list(job.steps("abc"))
    job.next_pass()
    assert (job.progress.job_no, job.progress.job_count, job.progress.step) == (1, 2, 0)
    assert job.progress.fraction == 0.5


def test_previews_are_numbered() -> None:
    job = JobContext.alone()
    assert job.progress.preview is None
    job.show(b"one", "image/png")
    job.show(b"two", "image/jpeg")
    preview = job.progress.preview
    assert preview is not None
    assert (preview.number, preview.mime, preview.data) == (2, "image/jpeg", b"two")


def test_text_and_versions() -> None:
    job = JobContext.alone()
    before = job.progress
    job.text("Decoding")
    assert job.progress.text == "Decoding"
    assert before.text == ""
    assert job.progress.version == before.version + 1


def test_a_snapshot_knows_its_time() -> None:
    progress = JobContext.alone().progress
    assert progress.state == "running"
    assert progress.started_at is not None
    assert len(progress.job_timestamp) == 14
    assert progress.job_timestamp.isdigit()


def test_children_fill_their_shares() -> None:
    job = JobContext.alone()
    fractions = []
    for _ in range(4):
        part = job.child(1 / 4)
        part.begin_passes(2)
        part.next_pass()
        fractions.append(job.progress.fraction)
        part.next_pass()
    assert fractions == [0.125, 0.375, 0.625, 0.875]
    assert job.progress.fraction == 1
    assert (job.progress.job_no, job.progress.job_count) == (8, 8)


def test_children_of_children_and_unequal_shares() -> None:
    job = JobContext.alone()
    first = job.child(0.75)
    for share, expected in ((0.5, 0.375), (0.5, 0.75)):
        inner = first.child(share)
        inner.begin_passes(3)
        for _ in range(3):
            inner.next_pass()
        assert job.progress.fraction == expected
    last = job.child(0.25)
    last.begin_passes(1)
    for _ in last.steps(range(2)):
        assert 0.75 <= job.progress.fraction < 1
    last.next_pass()
    assert job.progress.fraction == 1


def test_a_shorter_part_mends_the_estimate() -> None:
    job = JobContext.alone()
    job.child(1 / 2).begin_passes(3)
    assert job.progress.job_count == 6
    for _ in range(3):
        job.next_pass()
    job.child(1 / 2).begin_passes(1)
    assert job.progress.job_count == 4


def test_the_state_of_a_job() -> None:
    job = JobContext.alone()
    assert job.load_state() is None
    job.save_state({"frame": 3})
    job.save_state({"frame": 4})
    assert job.load_state() == {"frame": 4}


def test_artifacts_are_listed(tmp_path: Path) -> None:
    job = JobContext.alone()
    assert job.artifact(tmp_path / "a.mp4") == tmp_path / "a.mp4"
    job.artifact(tmp_path / "b.srt")
    assert job.progress.artifacts == (str(tmp_path / "a.mp4"), str(tmp_path / "b.srt"))
