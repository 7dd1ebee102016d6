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


def test_parts_count_their_passes_for_the_whole() -> None:
    job = JobContext.alone()
    fractions = []
    for number in range(4):
        part = job.part_of(4 - number)
        part.begin_passes(2)
        part.next_pass()
        fractions.append(job.progress.fraction)
        part.next_pass()
    assert fractions == [0.125, 0.375, 0.625, 0.875]
    assert job.progress.fraction == 1


def test_a_shorter_part_mends_the_estimate() -> None:
    job = JobContext.alone()
    job.part_of(2).begin_passes(3)
    assert job.progress.job_count == 6
    for _ in range(3):
        job.next_pass()
    job.part_of(1).begin_passes(1)
    assert job.progress.job_count == 4
