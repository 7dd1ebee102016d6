"""/deforum_api: batches of animations over HTTP, under the names that Deforum's own API gave them."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

from webui.extensions.api import InvalidRequest, NotFound, WebuiError

from . import job
from .settings_files import read_settings

VERSION = "1.0"
_ID = re.compile(r"(batch\(\d+\))-(\d+)")
_STATUS = {
    "queued": "ACCEPTED", "running": "ACCEPTED", "done": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED",
    "parked": "FAILED",
}  # fmt: skip


def add_routes(app: Any, easel: Any) -> None:
    from fastapi import Body, Query
    from fastapi.responses import JSONResponse

    @app.post("/deforum_api/batches", status_code=202)
    def submit(request: dict[str, Any] = Body()) -> Any:  # noqa: B008 - how FastAPI has it
        batch = submit_batch(easel, request.get("deforum_settings"), request.get("options_overrides"))
        return {"message": "Job(s) accepted", "batch_id": batch[0].rpartition("-")[0], "job_ids": batch}

    @app.get("/deforum_api/batches")
    def batches() -> Any:
        found: dict[str, list[str]] = {}
        for job_id in _job_ids(easel):
            found.setdefault(job_id.rpartition("-")[0], []).append(job_id)
        return {batch: sorted(ids, key=_number) for batch, ids in found.items()}

    @app.get("/deforum_api/batches/{batch_id}")
    def batch(batch_id: str) -> Any:
        return [describe(easel, job_id) for job_id in _batch(easel, batch_id)]

    @app.delete("/deforum_api/batches/{batch_id}")
    def cancel_batch(batch_id: str) -> Any:
        ids = _batch(easel, batch_id)
        ended = [job_id for job_id in ids if _cancel(easel, job_id)]
        return {"ids": ended, "message": f"{len(ended)} of {len(ids)} jobs cancelled."}

    @app.get("/deforum_api/jobs")
    def jobs() -> Any:
        return {job_id: describe(easel, job_id) for job_id in _job_ids(easel)}

    @app.get("/deforum_api/jobs/{job_id}")
    def one(job_id: str) -> Any:
        return describe(easel, job_id)

    @app.delete("/deforum_api/jobs/{job_id}")
    def cancel(job_id: str) -> Any:
        _known(easel, job_id)
        if not _cancel(easel, job_id):
            return JSONResponse({"id": job_id, "message": "The job has ended already."}, status_code=400)
        return {"id": job_id, "message": "Job cancelled."}

    @app.get("/deforum/api_version")
    def api_version() -> Any:
        return {"version": VERSION}

    @app.get("/deforum/version")
    def version() -> Any:
        return {"version": f"Easel {VERSION}"}

    @app.post("/deforum/run")
    def run_once(settings_json: str = Query(), allowed_params: str = "") -> Any:
        try:
            given = json.loads(settings_json)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"settings_json is no JSON: {error}.") from error
        allowed = {name.strip() for name in allowed_params.split(";") if name.strip()}
        if allowed and isinstance(given, dict):
            given = {key: value for key, value in given.items() if key in allowed}
        (job_id,) = submit_batch(easel, given, None)
        easel.jobs.wait(job_id)
        return describe(easel, job_id)


def submit_batch(easel: Any, given: Any, overrides: Any) -> list[str]:
    """Queue an animation for each of the settings; all or none. Returns: the jobs' ids. Raises: InvalidRequest."""
    several = given if isinstance(given, list) else [given]
    if given is None or not several:
        raise InvalidRequest("deforum_settings is missing: give the settings of an animation, or a list of them.")
    if overrides is not None and not isinstance(overrides, dict):
        raise InvalidRequest("options_overrides must be an object of settings.")
    orders = []
    for place, settings in enumerate(several):
        orders.append(job.plan(easel, read_settings(settings).settings, overrides, later=place))
    batch = f"batch({secrets.randbelow(10**9)})"
    submitted: list[str] = []
    try:
        for place, order in enumerate(orders):
            submitted.append(easel.jobs.submit(job.KIND, order, job_id=f"{batch}-{place}"))
    except WebuiError:
        for job_id in submitted:
            easel.jobs.cancel(job_id)
        raise
    return submitted


def describe(easel: Any, job_id: str) -> dict[str, Any]:
    """One job as the API tells of it. Raises: NotFound."""
    progress = _known(easel, job_id)
    status = _STATUS[progress.state]
    if progress.state == "done" and progress.interrupted:
        status = "CANCELLED"
    settings_file = next((Path(path) for path in progress.artifacts if path.endswith("_settings.txt")), None)
    outdir, stamp, message = "", "", progress.text
    if settings_file is not None:
        outdir, stamp = str(settings_file.parent), settings_file.name.removesuffix("_settings.txt")
    if progress.state == "done":
        result = easel.jobs.result(job_id)
        outdir, stamp, message = result.folder, result.stamp, " ".join((result.message, *result.comments))
    elif progress.error is not None:
        message = progress.error.message
    return {
        "id": job_id,
        "status": status,
        "phase": _phase(progress),
        "error_type": _error_type(progress),
        "phase_progress": progress.fraction,
        "started_at": progress.started_at or 0.0,
        "last_updated": (progress.started_at or 0.0) + progress.elapsed_seconds,
        "execution_time": progress.elapsed_seconds,
        "update_interval_time": 0.0,
        "updates": progress.version,
        "message": message or None,
        "outdir": outdir or None,
        "timestring": stamp or None,
        "deforum_settings": _settings(outdir, stamp),
        "options_overrides": None,
    }


def _phase(progress: Any) -> str:
    if progress.ended:
        return "DONE"
    if progress.state == "queued":
        return "QUEUED"
    if progress.text.startswith("Making"):
        return "POST_PROCESSING"
    return "GENERATING" if progress.job_count else "PREPARING"


def _error_type(progress: Any) -> str:
    if progress.error is None:
        return "NONE"
    return "TERMINAL" if progress.error.is_user_error else "RETRYABLE"


def _settings(outdir: str, stamp: str) -> Any:
    path = Path(outdir) / f"{stamp}_settings.txt"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if stamp else None
    except (OSError, ValueError):
        return None


def _job_ids(easel: Any) -> list[str]:
    return [progress.job_id for progress in easel.jobs.listing() if _ID.fullmatch(progress.job_id)]


def _number(job_id: str) -> int:
    return int(job_id.rpartition("-")[2])


def _batch(easel: Any, batch_id: str) -> list[str]:
    ids = sorted((found for found in _job_ids(easel) if found.rpartition("-")[0] == batch_id), key=_number)
    if not ids:
        raise NotFound(f"There is no batch {batch_id[:80]}.")
    return ids


def _known(easel: Any, job_id: str) -> Any:
    if not _ID.fullmatch(job_id):
        raise NotFound(f"There is no job {job_id[:80]}.")
    return easel.jobs.progress(job_id)


def _cancel(easel: Any, job_id: str) -> bool:
    """Whether there was anything left to end."""
    if easel.jobs.progress(job_id).ended:
        return False
    easel.jobs.interrupt(job_id)
    return True
